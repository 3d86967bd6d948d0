"""Leaves: every certificate issued to a host or an operator, and what still hangs on a root."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from mosaic_controlplane.register.database import Connection
from mosaic_controlplane.register.revocation import Identity
from mosaic_controlplane.register.sql import load

SQL = load("leaf")


@dataclass(frozen=True, slots=True)
class NewLeaf:
    """A leaf that was just issued. `serial` is hex."""

    identity: Identity
    serial: str
    authority_id: UUID
    not_after: datetime


@dataclass(frozen=True, slots=True)
class LeafRow:
    """A leaf that is valid by its time. `replaced`: its holder has renewed it."""

    serial: str
    issued_at: datetime
    not_after: datetime
    authority_id: UUID
    replaced: bool


@dataclass(frozen=True, slots=True)
class InUse:
    """How many leaves in use a root has issued, and when the last of them ends."""

    leaves: int
    last_end: datetime


@dataclass(frozen=True, slots=True)
class Untold:
    """Who may not know a root yet; at `not_after` the leaf they have is of no use anyway."""

    kind: str
    name: str
    tenant: str
    not_after: datetime


async def add(connection: Connection, leaf: NewLeaf) -> None:
    """Write down a new leaf."""
    one = leaf.identity
    await connection.execute(
        SQL.add,
        one.tenant_id,
        leaf.serial,
        one.kind,
        one.identity_id,
        one.identity_epoch,
        leaf.authority_id,
        leaf.not_after,
    )


async def replace(connection: Connection, *, tenant_id: UUID, serial: str) -> None:
    """Its holder has another one now."""
    await connection.execute(SQL.replace, tenant_id, serial)


async def hold_standing(connection: Connection, identity: Identity) -> bool:
    """Say whether this identity stands, and keep it so until the transaction ends."""
    query = SQL.hold_host_standing if identity.kind == "host" else SQL.hold_operator_standing
    found = await connection.fetchval(query, identity.tenant_id, identity.identity_id, identity.identity_epoch)
    return found is not None


async def valid_of(connection: Connection, identity: Identity) -> list[LeafRow]:
    """Return the leaves of an identity that are valid by their time, newest first; 100 at most."""
    rows = await connection.fetch(SQL.valid_of, identity.tenant_id, identity.identity_id, identity.identity_epoch)
    return [LeafRow(**row) for row in rows]


async def by_authority(connection: Connection) -> dict[UUID, InUse]:
    """Return what still hangs on each root."""
    rows = await connection.fetch(SQL.by_authority)
    return {row["authority_id"]: InUse(row["leaves"], row["last_end"]) for row in rows}


async def untold(connection: Connection, authority_id: UUID) -> list[Untold]:
    """Return who may not know this root yet; 1,000 at most."""
    return [Untold(**row) for row in await connection.fetch(SQL.untold, authority_id)]


async def old_tokens(connection: Connection, authority_id: UUID) -> int:
    """Return how many unused join tokens do not name this root."""
    found: int = await connection.fetchval(SQL.old_tokens, authority_id)
    return found


async def forget_old(connection: Connection) -> None:
    """Delete leaves that ended more than a week ago."""
    await connection.execute(SQL.forget_old)
