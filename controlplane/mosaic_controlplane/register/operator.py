"""Operators: people, and what acts for them, with a role."""

from __future__ import annotations

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
