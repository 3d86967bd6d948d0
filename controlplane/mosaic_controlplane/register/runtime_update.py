"""Updates of the runtimes' own programs: asked for, and how far each is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from mosaic_controlplane.register.database import Connection
from mosaic_controlplane.register.sql import load

SQL = load("runtime_update")


@dataclass(frozen=True, slots=True)
class UpdatableSeat:
    """A seat, and the runtime it runs. `spec`: a serialised mosaic.v1.SeatSpec."""

    host_id: UUID
    host: str
    runtime: str
    name: str
    spec: bytes


@dataclass(frozen=True, slots=True)
class UpdateRow:
    """An update as it is. `seats`: a serialised mosaic.v1.RuntimeUpdate with its seats alone."""

    update_id: UUID
    host: str
    runtime: str
    relaunch: bool
    state: str
    version_before: str
    version_after: str
    problem: str
    output: str
    seats: bytes
    asked_by: str
    asked_at: datetime
    changed_at: datetime


@dataclass(frozen=True, slots=True)
class WantedUpdate:
    """What a host is to begin."""

    update_id: UUID
    runtime: str
    relaunch: bool
    drain_ms: int


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a host says that an update is."""

    update_id: UUID
    state: str
    version_before: str
    version_after: str
    problem: str
    output: str
    seats: bytes


async def seats(connection: Connection, *, tenant_id: UUID, host: str, runtime: str) -> list[UpdatableSeat]:
    """Return the seats of a tenant, of one host and one runtime where these are named."""
    rows = await connection.fetch(SQL.seats, tenant_id, host, runtime)
    return [UpdatableSeat(**{field: row[field] for field in UpdatableSeat.__slots__}) for row in rows]


async def ask(
    connection: Connection,
    *,
    tenant_id: UUID,
    update_id: UUID,
    host_id: UUID,
    runtime: str,
    relaunch: bool,
    drain: timedelta,
    asked_by: str,
    start_within: timedelta,
) -> bool:
    """Ask for an update; False while another one of this runtime is under way on this host."""
    asked = await connection.fetchval(
        SQL.ask, tenant_id, update_id, host_id, runtime, relaunch, drain, asked_by, start_within
    )
    return asked is not None


async def find(connection: Connection, *, tenant_id: UUID, update_id: UUID) -> UpdateRow | None:
    """Return an update, or None."""
    row = await connection.fetchrow(SQL.find, tenant_id, update_id)
    return UpdateRow(**{field: row[field] for field in UpdateRow.__slots__}) if row is not None else None


async def under_way(connection: Connection, *, tenant_id: UUID, host_id: UUID, runtime: str) -> tuple[UUID, str] | None:
    """Return the update of a runtime that is under way on a host and who asked for it, or None."""
    row = await connection.fetchrow(SQL.under_way, tenant_id, host_id, runtime)
    return (row["update_id"], row["asked_by"]) if row is not None else None


async def wanted_of_host(connection: Connection, *, tenant_id: UUID, host_id: UUID) -> list[WantedUpdate]:
    """Return what a host is to begin, the oldest first."""
    rows = await connection.fetch(SQL.wanted_of_host, tenant_id, host_id)
    return [WantedUpdate(**{field: row[field] for field in WantedUpdate.__slots__}) for row in rows]


async def progress(connection: Connection, *, tenant_id: UUID, host_id: UUID, told: Progress) -> bool:
    """Write how far an update is; False when that is older than what is known."""
    taken = await connection.fetchval(
        SQL.progress,
        tenant_id,
        host_id,
        told.update_id,
        told.state,
        told.version_before,
        told.version_after,
        told.problem,
        told.output,
        told.seats,
    )
    return taken is not None


async def expire(connection: Connection, *, tenant_id: UUID) -> bool:
    """End the updates that their hosts did not begin in time; say whether there were any."""
    return bool(await connection.fetch(SQL.expire, tenant_id))
