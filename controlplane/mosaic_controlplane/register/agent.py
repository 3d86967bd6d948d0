"""Agents: the seats of the roster, what is wanted of each and what its host last said of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

import asyncpg
from mosaic_proto.v1.fleet_pb2 import SeatSpec

from mosaic_controlplane.register.database import Connection
from mosaic_controlplane.register.sql import load

SQL = load("agent")

PAGE = 1_000
FIRST = ("", "")
"""Before every seat in the order of hosts and names."""


@dataclass(frozen=True, slots=True)
class AgentRow:
    """A seat as the register knows it."""

    tenant_id: UUID
    agent_id: UUID
    host_id: UUID
    tenant: str
    host: str
    host_state: str
    last_beat_at: datetime | None
    name: str
    runtime: str
    alias: str
    spec: bytes
    desired_running: bool
    generation: int
    observed_generation: int
    removed_at: datetime | None
    state: str
    state_source: str
    state_detail: str
    state_since: datetime | None
    reported_at: datetime | None
    run_id: UUID | None
    pid: int | None
    command: str
    exit_status: int | None
    problem: str
    supervision: str
    unit: str
    enabled: bool
    output_at: datetime | None
    running_runtime: str
    running_model: str
    reported_model: str
    runtime_version: str
    runtime_session: str
    card: str
    class_name: str
    driver: str
    driven_since: datetime | None


_FIELDS = [field for field in AgentRow.__slots__ if field != "class_name"]


@dataclass(frozen=True, slots=True)
class Seat:
    """A seat's address and class."""

    agent_id: UUID
    name: str
    host_id: UUID
    host: str
    class_name: str


@dataclass(frozen=True, slots=True)
class DesiredSeat:
    """What a host must bring about."""

    agent_id: UUID
    generation: int
    running: bool
    restart: int
    spec: bytes
    reset: int = 0
    reset_way: str = ""


@dataclass(frozen=True, slots=True)
class AppliedSeat:
    """A seat of the newest roster, before a new one is applied."""

    agent_id: UUID
    host_id: UUID
    name: str
    spec_digest: bytes


@dataclass(frozen=True, slots=True)
class SeatSpecRow:
    """What a roster says of a seat. `spec` is a serialised mosaic.v1.SeatSpec, `spec_digest` its SHA-256."""

    host_id: UUID
    name: str
    class_name: str
    runtime: str
    alias: str
    spec: bytes
    spec_digest: bytes
    desired_running: bool


@dataclass(frozen=True, slots=True)
class SeatReportRow:
    """What a host says of a seat now; `age` is how long it has been so."""

    agent_id: UUID
    state: str
    source: str
    detail: str
    age: timedelta
    run_id: UUID | None
    pid: int
    command: str
    problem: str
    exit_status: int | None
    generation: int
    supervision: str = ""
    unit: str = ""
    enabled: bool = False
    output_age: timedelta | None = None
    running_runtime: str = ""
    running_model: str = ""
    reported_model: str = ""
    runtime_version: str = ""
    runtime_session: str = ""
    driver: str = ""
    driven: timedelta = timedelta(0)
    strongest_step: str = "submitted"


async def list_agents(
    connection: Connection,
    *,
    tenant_id: UUID,
    after: tuple[str, str] = FIRST,
    limit: int | None = None,
) -> list[AgentRow]:
    """Return the seats of a tenant by host and name.

    `after`: the (host, name) after which to begin. `limit`: how many at most.
    """
    rows = await connection.fetch(SQL.list_agents, tenant_id, *after, limit)
    return [AgentRow(**{field: row[field] for field in _FIELDS}, class_name=row["class"]) for row in rows]


async def shown(connection: Connection, *, tenant_id: UUID) -> list[AgentRow]:
    """Return every seat of a tenant as it is shown: of its spec only what `for_show` leaves. A page at a time is read,
    so that no statement is long, and nobody else waits for this to be decoded.
    """
    found: list[AgentRow] = []
    after = FIRST
    while True:
        page = await list_agents(connection, tenant_id=tenant_id, after=after, limit=PAGE)
        found += map(for_show, page)
        if len(page) < PAGE:
            return found
        after = (page[-1].host, page[-1].name)


def for_show(row: AgentRow) -> AgentRow:
    """Return a seat whose spec has lost what only its host needs: some KiB each of contract and manifest."""
    spec = SeatSpec.FromString(row.spec)
    kept = SeatSpec(model=spec.model, working_directory=spec.working_directory, labels=spec.labels)
    return replace(row, spec=kept.SerializeToString())


async def addresses(connection: Connection, *, tenant_id: UUID) -> list[Seat]:
    """Return every seat's address in a tenant."""
    return _seats(await connection.fetch(SQL.addresses, tenant_id))


async def named(connection: Connection, *, tenant_id: UUID, name: str, host: str = "") -> list[Seat]:
    """Return the seats of that name, on any host or on that one."""
    if host:
        return _seats(await connection.fetch(SQL.addressed, tenant_id, host, name))
    return _seats(await connection.fetch(SQL.named, tenant_id, name))


def _seats(rows: Sequence[asyncpg.Record]) -> list[Seat]:
    return [Seat(row["agent_id"], row["name"], row["host_id"], row["host"], row["class"]) for row in rows]


async def called(connection: Connection, *, tenant_id: UUID, name: str) -> list[tuple[Seat, str, bytes]]:
    """Return the seats of that name on any host, each with its runtime and its serialised mosaic.v1.SeatSpec."""
    rows = await connection.fetch(SQL.called, tenant_id, name)
    return [
        (Seat(row["agent_id"], row["name"], row["host_id"], row["host"], row["class"]), row["runtime"], row["spec"])
        for row in rows
    ]


async def seats_of_host(connection: Connection, *, tenant_id: UUID, host_id: UUID) -> list[DesiredSeat]:
    """Return all that a host must have."""
    rows = await connection.fetch(SQL.seats_of_host, tenant_id, host_id)
    return [
        DesiredSeat(
            agent_id=row["agent_id"],
            generation=row["generation"],
            running=row["desired_running"],
            restart=row["restart"],
            spec=row["spec"],
            reset=row["reset"],
            reset_way=row["reset_way"],
        )
        for row in rows
    ]


async def seats_for_apply(connection: Connection, *, tenant_id: UUID) -> list[AppliedSeat]:
    """Return the seats of the newest roster, which only the holder of the roster's lock changes."""
    rows = await connection.fetch(SQL.seats_for_apply, tenant_id)
    return [AppliedSeat(row["agent_id"], row["host_id"], row["name"], row["spec_digest"]) for row in rows]


async def seats_applied(connection: Connection, *, tenant_id: UUID) -> list[AppliedSeat]:
    """Return the seats of the newest roster."""
    rows = await connection.fetch(SQL.seats_applied, tenant_id)
    return [AppliedSeat(row["agent_id"], row["host_id"], row["name"], row["spec_digest"]) for row in rows]


async def may_still_run(
    connection: Connection, *, tenant_id: UUID, agent_ids: Sequence[UUID]
) -> list[tuple[str, str, str]]:
    """Return which of these seats may run on a host that cannot be reached: (name, host, state of the host)."""
    rows = await connection.fetch(SQL.may_still_run, tenant_id, list(agent_ids))
    return [(row["name"], row["host"], row["state"]) for row in rows]


async def add_seat(connection: Connection, *, tenant_id: UUID, agent_id: UUID, seat: SeatSpecRow) -> None:
    """Add a seat."""
    await connection.execute(
        SQL.add_seat,
        tenant_id,
        agent_id,
        seat.host_id,
        seat.name,
        seat.class_name,
        seat.runtime,
        seat.alias,
        seat.spec,
        seat.spec_digest,
        seat.desired_running,
    )


async def change_seat(connection: Connection, *, tenant_id: UUID, agent_id: UUID, seat: SeatSpecRow) -> None:
    """Change what is wanted of a seat."""
    await connection.execute(
        SQL.change_seat,
        tenant_id,
        agent_id,
        seat.class_name,
        seat.runtime,
        seat.alias,
        seat.spec,
        seat.spec_digest,
    )


async def remove_seats(connection: Connection, *, tenant_id: UUID, agent_ids: Sequence[UUID]) -> None:
    """Take seats out of the fleet; their history stays."""
    await connection.execute(SQL.remove_seats, tenant_id, list(agent_ids))


async def act_on_seats(connection: Connection, *, tenant_id: UUID, agent_ids: Sequence[UUID], action: str) -> None:
    """Raise what is wanted of seats. `action` is start, stop or restart."""
    query = {"start": SQL.start_seats, "stop": SQL.stop_seats, "restart": SQL.restart_seats}[action]
    await connection.execute(query, tenant_id, list(agent_ids))


async def reset_seats(connection: Connection, *, tenant_id: UUID, agent_ids: Sequence[UUID], way: str) -> None:
    """Ask for a reset of seats. `way` is clear, new, restart, or empty for the runtime's own."""
    await connection.execute(SQL.reset_seats, tenant_id, list(agent_ids), way)


async def report_seats(
    connection: Connection, *, tenant_id: UUID, host_id: UUID, reports: Sequence[SeatReportRow]
) -> None:
    """Write what a host says of its own seats; seats of other hosts are left alone."""
    columns = zip(
        *(
            (
                r.agent_id,
                r.state,
                r.source,
                r.detail,
                r.age,
                r.run_id,
                r.pid,
                r.command,
                r.problem,
                r.exit_status,
                r.generation,
                r.supervision,
                r.unit,
                r.enabled,
                r.output_age,
                r.running_runtime,
                r.running_model,
                r.reported_model,
                r.runtime_version,
                r.runtime_session,
                r.strongest_step,
            )
            for r in reports
        ),
        strict=True,
    )
    await connection.execute(SQL.report_seats, tenant_id, host_id, *(list(column) for column in columns))
    drivers = [(r.agent_id, r.driver, r.driven) for r in reports]
    await connection.execute(
        SQL.report_drivers, tenant_id, host_id, *(list(column) for column in zip(*drivers, strict=True))
    )
