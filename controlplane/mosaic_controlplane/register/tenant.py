"""Tenants: the units of isolation inside a cluster."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from mosaic_framework.ids import new_id

from mosaic_controlplane.register.database import Connection
from mosaic_controlplane.register.sql import load

SQL = load("tenant")

DEFAULT = "default"
"""The tenant that every cluster has."""


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
