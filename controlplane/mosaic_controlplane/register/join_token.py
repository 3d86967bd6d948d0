"""One-time join tokens: only the SHA-256 of a secret is ever kept."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from mosaic_controlplane.register.database import Connection
from mosaic_controlplane.register.sql import load

SQL = load("join_token")


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token to be kept. `role` is for operators only."""

    tenant_id: UUID
    token_id: UUID
    kind: str
    name: str
    role: str | None
    secret_hash: bytes
    made_by: str


@dataclass(frozen=True, slots=True)
class TokenRow:
    """A token as it stands. `expired` by the database's clock; `spent_*` are None until it has been used."""

    tenant_id: UUID
    token_id: UUID
    kind: str
    name: str
    role: str | None
    secret_hash: bytes
    made_by: str
    spent_at: datetime | None
    spent_key_hash: bytes | None
    spent_certificate: bytes | None
    expires_at: datetime
    expired: bool
    tenant: str


async def add(connection: Connection, token: NewToken, *, ttl: timedelta) -> datetime:
    """Keep a new token, and return when it expires."""
    expires_at: datetime = await connection.fetchval(
        SQL.add,
        token.tenant_id,
        token.token_id,
        token.kind,
        token.name,
        token.role,
        token.secret_hash,
        ttl,
        token.made_by,
    )
    return expires_at


async def hold_by_secret(connection: Connection, secret_hash: bytes) -> TokenRow | None:
    """Return the token with that hash, locked until the transaction ends, or None."""
    row = await connection.fetchrow(SQL.hold_by_secret, secret_hash)
    return TokenRow(**row) if row else None


async def spend(connection: Connection, token: TokenRow, *, key_hash: bytes, certificate: bytes) -> bool:
    """Mark a held token as used by the joiner of that key (SHA-256 of its public key). False when it already was."""
    spent = await connection.fetchval(SQL.spend, token.tenant_id, token.token_id, key_hash, certificate)
    return spent is not None


async def forget_old(connection: Connection) -> None:
    """Delete tokens that ended more than a week ago."""
    await connection.execute(SQL.forget_old)
