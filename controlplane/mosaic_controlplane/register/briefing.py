"""What the seats of a tenant are all told beside their roles, as of its newest roster."""

from __future__ import annotations

from uuid import UUID

from mosaic_controlplane.register.database import Connection
from mosaic_controlplane.register.sql import load

SQL = load("briefing")


async def get(connection: Connection, *, tenant_id: UUID) -> bytes:
    """Return the tenant's serialised mosaic.v1.Briefing; empty when there is none."""
    content: bytes | None = await connection.fetchval(SQL.get, tenant_id)
    return content or b""


async def replace(connection: Connection, *, tenant_id: UUID, content: bytes) -> None:
    """Make `content` the briefing of a tenant. The caller holds the roster's lock."""
    await connection.execute(SQL.replace, tenant_id, content)
