"""Audit: one row for every write and every refusal."""

from __future__ import annotations

import json
from uuid import UUID

from mosaic_framework.ids import new_id

from mosaic_controlplane.register.database import Connection
from mosaic_controlplane.register.sql import load

SQL = load("audit")


async def record(
    connection: Connection,
    *,
    tenant_id: UUID | None,
    caller_kind: str,
    caller_id: str,
    caller_name: str,
    peer_address: str,
    method: str,
    target: str = "",
    request_id: str = "",
    outcome: str = "done",
    detail: dict[str, str] | None = None,
) -> None:
    """Write one audit row. `outcome` is 'done' or an error code; `detail` never holds a body or a secret."""
    await connection.execute(
        SQL.record,
        new_id(),
        tenant_id,
        caller_kind,
        caller_id,
        caller_name,
        peer_address,
        method,
        target,
        request_id,
        outcome,
        json.dumps(detail or {}),
    )
