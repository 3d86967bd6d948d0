"""The desired roster of a tenant, every version of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg
from mosaic_framework.errors import InvalidInput

from mosaic_controlplane.register.database import Connection
from mosaic_controlplane.register.sql import load

SQL = load("roster")


@dataclass(frozen=True, slots=True)
class RosterRow:
    """One version of a roster; `document` is JSON."""

    version: int
    document: str
    applied_by: str
    applied_at: datetime


async def lock(connection: Connection, *, tenant_id: UUID) -> None:
    """Take the tenant's turn to change what is wanted of its fleet, until the transaction ends."""
    await connection.execute(SQL.lock, str(tenant_id))


async def newest(connection: Connection, *, tenant_id: UUID, version: int = 0) -> RosterRow | None:
    """Return the newest roster, or the given version; None when there is none."""
    row = await connection.fetchrow(SQL.newest, tenant_id, version)
    return None if row is None else RosterRow(**dict(row))


async def add(connection: Connection, *, tenant_id: UUID, version: int, document: str, applied_by: str) -> None:
    """Add a version. Raises InvalidInput when the document holds what JSON may and PostgreSQL may not, such as NUL."""
    try:
        await connection.execute(SQL.add, tenant_id, version, document, applied_by)
    except (asyncpg.DataError, asyncpg.ProgramLimitExceededError) as error:
        raise InvalidInput("the roster cannot be kept", why=str(error).splitlines()[0]) from error
