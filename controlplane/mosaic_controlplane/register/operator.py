"""Operators: people, and what acts for them, with a role."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from mosaic_framework.ids import new_id

from mosaic_controlplane.register.database import Connection
from mosaic_controlplane.register.host_identity import Standing
from mosaic_controlplane.register.sql import load

SQL = load("operator")


async def enrol(connection: Connection, *, tenant_id: UUID, name: str, role: str) -> tuple[UUID, int]:
    """Return (operator id, identity epoch) of a new or known operator, whose role is now `role`.

    A revoked one comes back under a new epoch.
    """
    row = await connection.fetchrow(SQL.enrol, tenant_id, new_id(), name, role)
    assert row is not None
    return row["operator_id"], row["identity_epoch"]


async def standing(connection: Connection, *, tenant: str, operator_id: UUID) -> Standing | None:
    """Return how the register knows this operator now, or None."""
    row = await connection.fetchrow(SQL.standing, tenant, operator_id)
    return Standing(**row) if row else None


@dataclass(frozen=True, slots=True)
class OperatorRow:
    """An operator as shown."""

    operator_id: UUID
    name: str
    role: str
    made_at: datetime
    revoked: bool
    tenant: str


async def list_operators(connection: Connection, *, tenant_id: UUID) -> list[OperatorRow]:
    """Return a tenant's operators by name, the revoked ones too."""
    return [OperatorRow(**row) for row in await connection.fetch(SQL.list_operators, tenant_id)]


async def hold_admins(connection: Connection, *, tenant_id: UUID) -> list[str]:
    """Return the names of a tenant's admins, none of whom anybody else changes until the transaction ends."""
    return [row["name"] for row in await connection.fetch(SQL.hold_admins, tenant_id)]


async def change_role(connection: Connection, *, tenant_id: UUID, name: str, role: str) -> bool:
    """Give an operator another role. False when there is none of that name, or it is revoked."""
    return await connection.fetchval(SQL.change_role, tenant_id, name, role) is not None
