"""What a peer may see and do here: decided by the owner, each with an end. No grant, no right."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from mosaic_controlplane.register.database import Connection
from mosaic_controlplane.register.sql import load

SQL = load("peer_grant")

KINDS = ("see", "send", "watch", "claim")


@dataclass(frozen=True, slots=True)
class NewGrant:
    """A grant to be kept. `fields` are groups of fields, of `see`; `most` is how many cards may be held, of `claim`."""

    tenant_id: UUID
    grant_id: UUID
    peer_id: UUID
    kind: str
    selector: str
    fields: Sequence[str]
    most: int
    made_by: str


@dataclass(frozen=True, slots=True)
class GrantRow:
    """A grant that counts now: not ended, and not expired by the database's clock."""

    grant_id: UUID
    peer_id: UUID
    kind: str
    selector: str
    fields: Sequence[str]
    most: int
    expires_at: datetime
    made_by: str
    made_at: datetime


async def add(connection: Connection, new: NewGrant, *, ttl: timedelta) -> GrantRow:
    """Keep a grant that expires after `ttl`."""
    row = await connection.fetchrow(
        SQL.add,
        new.tenant_id,
        new.grant_id,
        new.peer_id,
        new.kind,
        new.selector,
        list(new.fields),
        new.most,
        ttl,
        new.made_by,
    )
    assert row is not None
    return GrantRow(**row)


async def active(
    connection: Connection, *, tenant_id: UUID, peer_id: UUID, kinds: Collection[str] = KINDS
) -> list[GrantRow]:
    """Return the peer's grants of these kinds that count now."""
    return [GrantRow(**row) for row in await connection.fetch(SQL.active, tenant_id, peer_id, list(kinds))]


async def active_of_tenant(connection: Connection, *, tenant_id: UUID) -> list[GrantRow]:
    """Return the grants of all peers of a tenant that count now."""
    return [GrantRow(**row) for row in await connection.fetch(SQL.active_of_tenant, tenant_id)]


async def end(
    connection: Connection, *, tenant_id: UUID, peer_id: UUID, grants: Collection[UUID], by: str
) -> list[UUID]:
    """End these grants of a peer; returns those that had not ended."""
    rows = await connection.fetch(SQL.end_some, tenant_id, peer_id, list(grants), by)
    return [row["grant_id"] for row in rows]


async def end_all(connection: Connection, *, tenant_id: UUID, peer_id: UUID, by: str) -> None:
    """End all grants of a peer."""
    await connection.execute(SQL.end_all, tenant_id, peer_id, by)
