"""Hosts: their links, their liveness and the generation of their desired state. Identity columns: host_identity.py."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from mosaic_framework.errors import Conflict, Denied

from mosaic_controlplane.register import claims_of_lost
from mosaic_controlplane.register.database import Connection
from mosaic_controlplane.register.sql import load

SQL = load("host")


class LinkSuperseded(Conflict):
    """A newer link of this host has taken over."""

    code = "link-superseded"


class LinkRefused(Denied):
    """This host may no longer link."""

    code = "link-refused"
    hint = "join the host again: mosaic host token NAME"


@dataclass(frozen=True, slots=True)
class HostRow:
    """A host as the register knows it. `at` is the database's time of the reading."""

    host_id: UUID
    tenant: str
    name: str
    state: str
    joined_at: datetime
    last_beat_at: datetime | None
    link_epoch: int
    linked_replica: UUID | None
    identity_epoch: int
    generation: int
    observed_generation: int
    version: str
    machine: str
    seats: int
    unmanaged: bytes
    at: datetime
    linked: bool
    beat_interval: timedelta
    lost_after: timedelta
    lost_claims: str
    draining_since: datetime | None
    draining_by: str
    link_problem: str


@dataclass(frozen=True, slots=True)
class OpenedLink:
    """A link just opened.

    `journal_replaced`: what was dispatched before may be unknown to the host's journal. `journal_disowned`: and that
    journal has a past, an older one than the register knows, so that what is open in it may have been typed already.
    """

    link_epoch: int
    generation: int
    beat_interval: timedelta
    journal_replaced: bool
    journal_disowned: bool
    was_silent: bool
    """it was stale or lost before"""


@dataclass(frozen=True, slots=True)
class LinkKey:
    """One link of one host; every write on its behalf carries it."""

    tenant_id: UUID
    host_id: UUID
    link_epoch: int


async def list_hosts(
    connection: Connection, *, tenant_id: UUID, name: str = "", host_id: UUID | None = None
) -> list[HostRow]:
    """Return the hosts of a tenant, or the one named or identified."""
    rows = await connection.fetch(SQL.list_hosts, tenant_id, name, host_id)
    return [HostRow(**{field: row[field] for field in HostRow.__slots__}) for row in rows]


async def ids_by_name(connection: Connection, *, tenant_id: UUID) -> dict[str, UUID]:
    """Return the ids of the hosts that may be given work."""
    return {row["name"]: row["host_id"] for row in await connection.fetch(SQL.ids_by_name, tenant_id)}


async def open_link(
    connection: Connection,
    *,
    tenant_id: UUID,
    host_id: UUID,
    identity_epoch: int,
    replica_id: UUID,
    journal_id: UUID,
    journal_epoch: int,
    journal_sequence: int | None,
    version: str,
    machine: str,
    observed_generation: int,
) -> OpenedLink:
    """Raise the host's link epoch and give the link to this replica. Raises LinkRefused."""
    row = await connection.fetchrow(
        SQL.open_link,
        tenant_id,
        host_id,
        identity_epoch,
        replica_id,
        journal_id,
        version,
        machine,
        observed_generation,
    )
    if row is None:
        raise LinkRefused(why="its identity was revoked, replaced or removed")
    known = row["journal_before"]
    older = journal_epoch < row["confirmed_before"] or (
        journal_sequence is not None and journal_sequence < row["sequence_before"]
    )
    replaced = known is not None and (known != journal_id or older)
    # Another journal without an epoch is a new one, which was never given anything.
    disowned = replaced and (known == journal_id or journal_epoch > 0)
    return OpenedLink(
        row["link_epoch"],
        row["generation"],
        row["beat_interval"],
        replaced,
        disowned,
        was_silent=row["state_before"] in ("stale", "lost"),
    )


async def refuse_link(connection: Connection, *, tenant_id: UUID, host_id: UUID, problem: str) -> None:
    """Note why a host's link was refused; the next link that is opened clears it."""
    await connection.execute(SQL.refuse_link, tenant_id, host_id, problem)


async def confirm_link(connection: Connection, link: LinkKey) -> None:
    """The host's journal holds this epoch: messages may be dispatched under it. Raises LinkSuperseded."""
    confirmed = await connection.fetchval(SQL.confirm_link, link.tenant_id, link.host_id, link.link_epoch)
    if confirmed is None:
        raise LinkSuperseded


async def close_link(connection: Connection, link: LinkKey) -> None:
    """Say that no replica holds this link any more."""
    await connection.execute(SQL.close_link, link.tenant_id, link.host_id, link.link_epoch)


async def hold_link(connection: Connection, link: LinkKey) -> None:
    """Keep the link from being superseded until this transaction ends. Raises LinkSuperseded."""
    if await connection.fetchval(SQL.hold_link, link.tenant_id, link.host_id, link.link_epoch) is None:
        raise LinkSuperseded


async def hold_link_with_events(connection: Connection, link: LinkKey, *, newest: int) -> None:
    """As `hold_link`, for a transaction that writes the host's facts up to `newest`. Raises LinkSuperseded."""
    held = await connection.fetchval(SQL.hold_link_with_events, link.tenant_id, link.host_id, link.link_epoch, newest)
    if held is None:
        raise LinkSuperseded


async def flush_beats(connection: Connection, beats: dict[LinkKey, timedelta]) -> list[UUID]:
    """Write the newest beat of each link, given its age, in one statement.

    Returns the tenants in which a host came back to life.
    """
    links = list(beats)
    rows = await connection.fetch(
        SQL.flush_beats,
        [link.tenant_id for link in links],
        [link.host_id for link in links],
        [link.link_epoch for link in links],
        [beats[link] for link in links],
    )
    return [row["tenant_id"] for row in rows]


async def tick(connection: Connection) -> list[tuple[UUID, UUID, str, str]]:
    """Judge every host's liveness by the database's clock, and settle the claims of those that are silent.

    Returns what changed: (tenant, host, name, state).

    In a transaction of its own, so that the rows of all hosts are locked in one pass.
    """
    gap = await connection.fetchval(SQL.tick)
    if gap is not None:
        await connection.execute(SQL.extend_leases, gap)
    rows = await connection.fetch(SQL.judge)
    silent = [(row["tenant_id"], row["host_id"]) for row in rows]
    if silent:
        await claims_of_lost.hold(connection, silent)
        lost = [(row["tenant_id"], row["host_id"]) for row in rows if row["state"] == "lost"]
        await claims_of_lost.release(connection, lost)
    return [(row["tenant_id"], row["host_id"], row["name"], row["state"]) for row in rows]


async def set_generation(connection: Connection, *, tenant_id: UUID, host_ids: list[UUID]) -> dict[str, int]:
    """Raise the generation of the hosts; returns the new ones by host name."""
    rows = await connection.fetch(SQL.set_generation, tenant_id, sorted(host_ids))
    return {row["name"]: row["generation"] for row in rows}


async def set_unmanaged(connection: Connection, link: LinkKey, sessions: bytes) -> None:
    """Write which sessions on its tmux servers the host says are not ours: a serialised mosaic.v1.Unmanaged."""
    await connection.execute(SQL.set_unmanaged, link.tenant_id, link.host_id, link.link_epoch, sessions)


async def set_observed(connection: Connection, link: LinkKey, generation: int) -> None:
    """The host has reconciled a generation."""
    await connection.execute(SQL.set_observed, link.tenant_id, link.host_id, link.link_epoch, generation)


async def wanted(connection: Connection, link: LinkKey) -> tuple[int, timedelta]:
    """Return the generation and the beat interval that are wanted of a host. Raises LinkSuperseded."""
    row = await connection.fetchrow(SQL.wanted, link.tenant_id, link.host_id, link.link_epoch)
    if row is None:
        raise LinkSuperseded
    return row["generation"], row["beat_interval"]


async def with_work(connection: Connection, told: dict[LinkKey, tuple[int, timedelta]]) -> list[UUID]:
    """Return the hosts, of those linked, for which there is something to do.

    `told`: by link, the generation and the beat interval that its host was told last.
    """
    links = list(told)
    rows = await connection.fetch(
        SQL.with_work,
        [link.tenant_id for link in links],
        [link.host_id for link in links],
        [link.link_epoch for link in links],
        [told[link][0] for link in links],
        [told[link][1] for link in links],
    )
    return [row["host_id"] for row in rows]


async def beating(connection: Connection) -> tuple[int, timedelta]:
    """Return how many hosts of the cluster beat or ought to, and how often."""
    row = await connection.fetchrow(SQL.beating)
    return (row["hosts"], row["beat_interval"]) if row else (0, timedelta())


async def set_pace(connection: Connection, *, now: timedelta, new: timedelta) -> None:
    """Let all hosts that beat every `now` beat every `new`. Nothing happens when another replica has done it."""
    await connection.execute(SQL.set_pace, now, new)
