"""Identities: hosts and operators of a tenant, with how long their certificates last."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from mosaic_controlplane.register.database import Connection
from mosaic_controlplane.register.sql import load

SQL = load("identity")


@dataclass(frozen=True, slots=True)
class IdentityRow:
    """A host or an operator (`kind`). `state`: good, expired, revoked or left. `at`: the database's time of reading."""

    kind: str
    identity_id: UUID
    tenant: str
    name: str
    role: str
    identity_epoch: int
    state: str
    made_at: datetime
    valid_until: datetime | None
    """the end of its newest leaf; None: none is on record"""
    revoked_at: datetime | None
    revoked_by: str
    revoked_reason: str
    at: datetime


async def list_identities(
    connection: Connection, *, tenant_id: UUID, kind: str = "", name: str = ""
) -> list[IdentityRow]:
    """Return the identities of a tenant, of one kind or name if one is given."""
    rows = await connection.fetch(SQL.list_identities, tenant_id, kind, name)
    return [IdentityRow(**row) for row in rows]
