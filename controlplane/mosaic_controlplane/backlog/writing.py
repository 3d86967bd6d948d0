"""Writes that are carried out once for a request id, with their audit row, in one transaction."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from uuid import UUID

from mosaic_controlplane.identity import auditing
from mosaic_controlplane.identity.caller import Caller
from mosaic_controlplane.register import request
from mosaic_controlplane.register.database import Connection


async def record(
    connection: Connection,
    caller: Caller,
    *,
    tenant_id: UUID,
    method: str,
    target: str,
    request_id: UUID | None = None,
    detail: dict[str, str] | None = None,
) -> None:
    """Write the audit row of a write. Claims, and what is done under them, have the card's history instead."""
    await auditing.record(
        connection,
        caller,
        tenant_id=tenant_id,
        method=f"{'FederationService' if caller.kind == 'peer' else 'BacklogService'}/{method}",
        target=target,
        request_id=str(request_id or ""),
        detail=detail,
    )


async def once(
    connection: Connection,
    caller: Caller,
    *,
    tenant_id: UUID,
    method: str,
    request_id: UUID,
    payload: bytes,
    write: Callable[[], Awaitable[list[str]]],
) -> list[str]:
    """Carry out `write`, or return the words it answered with the first time. Raises RequestReused."""

    async def carry_out() -> bytes:
        return json.dumps(await write()).encode()

    kept = await request.once(
        connection,
        tenant_id=tenant_id,
        caller=caller.key,
        request_id=request_id,
        method=f"BacklogService/{method}",
        payload=payload,
        write=carry_out,
    )
    answered: list[str] = json.loads(kept)
    return answered
