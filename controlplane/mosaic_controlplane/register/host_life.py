"""Hosts that come and go: drained, taken out of the fleet, lost. Their links and liveness: host.py."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from mosaic_controlplane.register.database import Connection
from mosaic_controlplane.register.sql import load

SQL = load("host_life")

LOST_CLAIMS = ("lease", "hold", "release")
"""What becomes of what agents of a lost host have claimed: it runs out with its lease, is kept, or is given back."""


@dataclass(frozen=True, slots=True)
class HeldCard:
    """A card that an agent of a host has claimed."""

    agent: str
    card_id: str
    title: str


@dataclass(frozen=True, slots=True)
class LockedHost:
    """A host whose row is locked. `seats`: how many the roster gives it."""

    host_id: UUID
    state: str
    seats: int


@dataclass(frozen=True, slots=True)
class LostPolicy:
    """When a host of a tenant is lost, and what becomes of its claims: one of LOST_CLAIMS."""

    lost_after: timedelta
    lost_claims: str


async def drain(connection: Connection, *, tenant_id: UUID, name: str, by: str) -> UUID | None:
    """Let agents of the host claim nothing new. Returns its id; None when there is no such host, or it has left."""
    found: UUID | None = await connection.fetchval(SQL.drain, tenant_id, name, by)
    return found


async def undrain(connection: Connection, *, tenant_id: UUID, name: str) -> UUID | None:
    """Let agents of the host claim again. Returns its id; None when there is no such host, or it has left."""
    found: UUID | None = await connection.fetchval(SQL.undrain, tenant_id, name)
    return found


async def is_draining(connection: Connection, *, tenant_id: UUID, host_id: UUID) -> bool:
    """Say whether agents of the host claim nothing new."""
    return bool(await connection.fetchval(SQL.is_draining, tenant_id, host_id))


async def held_by_host(connection: Connection, *, tenant_id: UUID, host_id: UUID) -> list[HeldCard]:
    """Return what agents of a host have claimed, at most 200 cards."""
    return [HeldCard(**row) for row in await connection.fetch(SQL.held_by_host, tenant_id, host_id)]


async def lock(connection: Connection, *, tenant_id: UUID, name: str) -> LockedHost | None:
    """Lock a host until the transaction ends, and return it."""
    row = await connection.fetchrow(SQL.lock, tenant_id, name)
    return LockedHost(**row) if row else None


async def leave(connection: Connection, *, tenant_id: UUID, host_id: UUID) -> None:
    """The host is of the fleet no more: its identity is over, and its link ends."""
    await connection.execute(SQL.leave, tenant_id, host_id)


async def lost_policy(connection: Connection, *, tenant_id: UUID) -> LostPolicy:
    """Return what a tenant does about lost hosts."""
    row = await connection.fetchrow(SQL.lost_policy, tenant_id)
    assert row is not None
    return LostPolicy(**row)


async def set_lost_policy(
    connection: Connection, *, tenant_id: UUID, lost_after: timedelta | None, lost_claims: str | None
) -> None:
    """Change what is not None, for all hosts of the tenant that there are and will be."""
    await connection.execute(SQL.set_lost_policy, tenant_id, lost_after, lost_claims)
