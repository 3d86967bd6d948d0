"""Idempotency: the reply of a write is kept in the write's own transaction, under the caller's request id."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from uuid import UUID

from mosaic_framework.errors import Conflict

from mosaic_controlplane.register.database import Connection
from mosaic_controlplane.register.sql import load

SQL = load("request")


class RequestReused(Conflict):
    """This request id was already used for something else."""

    code = "request-reused"
    hint = "make a new request id for a new request"


async def once(
    connection: Connection,
    *,
    tenant_id: UUID,
    caller: str,
    request_id: UUID,
    method: str,
    payload: bytes,
    write: Callable[[], Awaitable[bytes]],
) -> bytes:
    """Return `write()`'s reply, or the kept one when this request was carried out before; in the caller's transaction.

    Raises RequestReused when the id was used with another method or payload.
    """
    digest = hashlib.sha256(payload).digest()
    await connection.execute(SQL.lock, str(tenant_id), caller, str(request_id))
    kept = await connection.fetchrow(SQL.find, tenant_id, caller, request_id)
    if kept is not None:
        if kept["method"] != method or kept["payload_digest"] != digest:
            raise RequestReused(details={"request_id": str(request_id), "method": kept["method"]})
        return bytes(kept["reply"])
    reply = await write()
    await connection.execute(SQL.keep, tenant_id, caller, request_id, method, digest, reply)
    return reply


async def refuse_later(connection: Connection, *, tenant_id: UUID, caller: str, request_id: UUID, method: str) -> None:
    """Note that a request which has not come yet must not be carried out any more; see `refused_before`."""
    await connection.execute(SQL.lock, str(tenant_id), caller, str(request_id))
    if await connection.fetchrow(SQL.find, tenant_id, caller, request_id) is None:
        await connection.execute(SQL.keep, tenant_id, caller, request_id, method, b"", b"")


async def refused_before(connection: Connection, *, tenant_id: UUID, caller: str, request_id: UUID) -> bool:
    """Whether `refuse_later` was told of this request; until this transaction ends it is told no more."""
    await connection.execute(SQL.lock, str(tenant_id), caller, str(request_id))
    return await connection.fetchrow(SQL.find, tenant_id, caller, request_id) is not None


async def forget_old(connection: Connection) -> None:
    """Delete replies that are older than 24 hours."""
    await connection.execute(SQL.forget_old)
