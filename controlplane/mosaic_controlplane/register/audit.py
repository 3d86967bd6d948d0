"""Audit: one row for every write and every refusal, and reading them again."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

from mosaic_framework.ids import new_id

from mosaic_controlplane.register.database import Connection
from mosaic_controlplane.register.sql import load

SQL = load("audit")

KEPT = timedelta(days=365)
"""How long a row stays."""

_PACKAGE = "mosaic.v1."
_LATEST = (datetime.max.replace(tzinfo=UTC), UUID(int=2**128 - 1))
_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)

Place = tuple[datetime, UUID]
"""Where a row stands among all: when it was written (aware UTC), and its id."""


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One row. `tenant` is empty for a row of no tenant; `outcome` is 'done' or an error's code."""

    audit_id: UUID
    tenant: str
    at: datetime
    caller_kind: str
    caller_id: str
    caller_name: str
    caller_role: str
    caller_host: str
    peer_address: str
    method: str
    target: str
    request_id: str
    outcome: str
    detail: dict[str, str]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which rows to show; an empty field picks all. `outcome` may be 'failed': all that are not 'done'."""

    caller: str = ""
    caller_kind: str = ""
    method: str = ""
    target: str = ""
    outcome: str = ""
    since: datetime = field(default=_EARLIEST)
    until: datetime | None = None


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
    caller_role: str = "",
    caller_host: str = "",
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
        method.removeprefix(_PACKAGE),
        target,
        request_id,
        outcome,
        json.dumps(detail or {}),
        caller_role,
        caller_host,
    )


async def list_newest(
    connection: Connection,
    *,
    tenant_id: UUID,
    strangers: bool,
    wanted: Wanted,
    limit: int,
    before: Place | None = None,
) -> list[AuditRow]:
    """Return up to `limit` rows of a tenant older than `before`, newest first. `strangers`: and those of no tenant."""
    place = before or _LATEST
    if wanted.until is not None:
        place = min(place, (wanted.until, UUID(int=0)))
    rows = await connection.fetch(
        SQL.list_newest,
        tenant_id,
        strangers,
        wanted.caller,
        wanted.caller_kind,
        wanted.method.removeprefix(_PACKAGE),
        wanted.target,
        wanted.outcome,
        wanted.since,
        *place,
        limit,
    )
    return [
        AuditRow(
            **{name: row[name] for name in AuditRow.__slots__ if name != "detail"}, detail=json.loads(row["detail"])
        )
        for row in rows
    ]


async def forget_old(connection: Connection) -> None:
    """Delete rows that are older than KEPT."""
    await connection.execute(SQL.forget_old, KEPT)
