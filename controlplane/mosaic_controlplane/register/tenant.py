"""Tenants: the units of isolation inside a cluster."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from mosaic_framework.ids import new_id

from mosaic_controlplane.register.database import Connection
from mosaic_controlplane.register.sql import load

SQL = load("tenant")

DEFAULT = "default"
"""The tenant that every cluster has from its start; its admins administer the cluster."""


@dataclass(frozen=True, slots=True)
class TenantRow:
    """A tenant; while it is paused, nothing new is dispatched in it."""

    tenant_id: UUID
    name: str
    paused: bool


async def find_by_name(connection: Connection, name: str) -> TenantRow | None:
    """Return the tenant of that name, or None."""
    row = await connection.fetchrow(SQL.find_by_name, name)
    return TenantRow(**row) if row else None


async def ensure(connection: Connection, name: str) -> None:
    """Make the tenant unless it is there."""
    await connection.execute(SQL.add, new_id(), name)


@dataclass(frozen=True, slots=True)
class TenantShown:
    """What those who administer the cluster see of a tenant: nothing inside."""

    tenant_id: UUID
    name: str
    made_at: datetime
    operators: int
    hosts: int


async def make(connection: Connection, name: str) -> UUID | None:
    """Make a tenant and return its id; None when there is one of that name."""
    made: UUID | None = await connection.fetchval(SQL.make, new_id(), name)
    return made


async def list_tenants(connection: Connection, *, tenant_id: UUID | None = None) -> list[TenantShown]:
    """Return all tenants by name, or the one of that id."""
    return [TenantShown(**row) for row in await connection.fetch(SQL.list_tenants, tenant_id)]


async def linked_hosts(connection: Connection, *, tenant_id: UUID) -> list[str]:
    """Return the names of a tenant's hosts whose host-agent is there, or was a moment ago."""
    return [row["name"] for row in await connection.fetch(SQL.linked_hosts, tenant_id)]


async def standing_peers(connection: Connection, *, tenant_id: UUID) -> list[str]:
    """Return the names of the clusters that a tenant is paired with."""
    return [row["name"] for row in await connection.fetch(SQL.standing_peers, tenant_id)]


async def remove(connection: Connection, *, tenant_id: UUID) -> dict[str, int]:
    """Delete a tenant with all its rows but the audit's, and return how many of each table went."""
    # It takes as long as it takes: half a removed tenant is none, and nobody else waits for it but that tenant.
    rows = await connection.fetch(SQL.remove, tenant_id, timeout=float("inf"))
    return {row["name"]: row["removed"] for row in rows}
