"""Roots of the cluster's certificate authority; keys are kept encrypted."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from mosaic_controlplane.register.database import Connection
from mosaic_controlplane.register.sql import load

SQL = load("authority")


@dataclass(frozen=True, slots=True)
class AuthorityRow:
    """A root: its certificate (DER), its key under the key file that replicas hold, and since when it signs."""

    authority_id: UUID
    certificate: bytes
    encrypted_key: bytes
    not_after: datetime
    signs_since: datetime | None = None
    made_at: datetime | None = None
    """None: not written yet"""


async def list_authorities(connection: Connection) -> list[AuthorityRow]:
    """Return the roots that are trusted, the one that signs first."""
    return [AuthorityRow(**row) for row in await connection.fetch(SQL.list_authorities)]


async def add(connection: Connection, authority: AuthorityRow, *, signs: bool) -> None:
    """Add a root. It is trusted from now on; `signs`: and issues from now on."""
    await connection.execute(
        SQL.add,
        authority.authority_id,
        authority.certificate,
        authority.encrypted_key,
        authority.not_after,
        signs,
    )


async def lock_change(connection: Connection) -> None:
    """Wait until nobody else changes the roots; held until the transaction ends."""
    await connection.execute(SQL.lock_change)


async def let_sign(connection: Connection, authority_id: UUID) -> None:
    """Let this root issue from now on, and no other."""
    await connection.execute(SQL.let_sign, authority_id)


async def retire(connection: Connection, authority_ids: Collection[UUID]) -> None:
    """Trust these roots no more."""
    await connection.execute(SQL.retire, list(authority_ids))


async def seconds_until_known(connection: Connection, authority_id: UUID) -> float:
    """Return for how many seconds a replica may still serve without knowing of this root's state; 0 or less: none."""
    left: float = await connection.fetchval(SQL.seconds_until_known, authority_id)
    return left
