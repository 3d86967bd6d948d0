"""Audit rows of verified callers: who wrote, as what, and from where."""

from __future__ import annotations

from uuid import UUID

from mosaic_controlplane.identity.caller import Caller
from mosaic_controlplane.register import audit
from mosaic_controlplane.register.database import Connection


async def record(
    connection: Connection,
    caller: Caller,
    *,
    method: str,
    target: str = "",
    tenant_id: UUID | None = None,
    request_id: str = "",
    outcome: str = "done",
    detail: dict[str, str] | None = None,
) -> None:
    """Write the audit row of what `caller` did, in the write's own transaction. `tenant_id`: default, the caller's."""
    await audit.record(
        connection,
        tenant_id=tenant_id or (caller.tenant_id if caller.tenant else None),
        caller_kind=caller.kind,
        caller_id=str(caller.id),
        caller_name=caller.name,
        caller_role=caller.role,
        caller_host=caller.host,
        peer_address=caller.peer_address,
        method=method,
        target=target,
        request_id=request_id,
        outcome=outcome,
        detail=with_originator(caller, detail),
    )


def with_originator(caller: Caller, detail: dict[str, str] | None) -> dict[str, str]:
    """Return the detail of a row with whom the caller says that it calls for, if it says so."""
    return {**(detail or {}), **({"on_behalf_of": caller.on_behalf_of} if caller.on_behalf_of else {})}
