"""Roots of the cluster's certificate authority; keys are kept encrypted."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from mosaic_controlplane.register.database import Connection
from mosaic_controlplane.register.sql import load

SQL = load("authority")


@dataclass(frozen=True, slots=True)
class AuthorityRow:
    """A root: its certificate (DER) and its key, encrypted under the key file that replicas hold."""

    authority_id: UUID
    certificate: bytes
    encrypted_key: bytes


async def list_authorities(connection: Connection) -> list[AuthorityRow]:
    """Return the roots in use, the one that signs first."""
    return [AuthorityRow(**row) for row in await connection.fetch(SQL.list_authorities)]


async def add(connection: Connection, authority: AuthorityRow, *, not_after: datetime) -> None:
    """Add a root; from now on it is the one that signs."""
    await connection.execute(SQL.add, authority.authority_id, authority.certificate, authority.encrypted_key, not_after)
