"""AuditService: what was written, by whom, from where, with what outcome. Policy: policy.yaml."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import UUID

from mosaic_framework.errors import InvalidInput
from mosaic_proto.v1 import people_pb2 as pb
from mosaic_proto.v1 import people_pb2_grpc

from mosaic_controlplane.api import encode
from mosaic_controlplane.api.interceptor import caller_of
from mosaic_controlplane.api.scope import tenant_of
from mosaic_controlplane.register import audit as audit_table
from mosaic_controlplane.register.audit import AuditRow, Place, Wanted
from mosaic_controlplane.register.database import Database

if TYPE_CHECKING:
    from google.protobuf.timestamp_pb2 import Timestamp
    from grpc.aio import ServicerContext

DEFAULT_LIMIT, MOST = 100, 1000


class AuditService(people_pb2_grpc.AuditServiceServicer):
    """The audit of the caller's tenant; for who administers the cluster, with what strangers and replicas did."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def List(
        self, request: pb.ListAuditRequest, context: ServicerContext[pb.ListAuditRequest, pb.ListAuditReply]
    ) -> pb.ListAuditReply:
        caller = caller_of(context)
        tenant_id = tenant_of(caller, request.tenant)
        if request.limit < 0 or request.limit > MOST:
            raise InvalidInput(f"{request.limit} rows cannot be asked for at once", why=f"at most {MOST} can")
        limit = request.limit or DEFAULT_LIMIT
        since = _moment(request, "since")
        wanted = Wanted(
            caller=_text(request.caller),
            caller_kind=_text(request.caller_kind),
            method=_text(request.method),
            target=_text(request.target),
            outcome=_text(request.outcome),
            until=_moment(request, "until"),
            **({"since": since} if since else {}),
        )
        before = _parse_cursor(request.cursor)
        async with self._database.connection() as connection:
            rows = await audit_table.list_newest(
                connection,
                tenant_id=tenant_id,
                strangers=caller.administers_cluster,
                wanted=wanted,
                limit=limit + 1,
                before=before,
            )
        more, rows = len(rows) > limit, rows[:limit]
        return pb.ListAuditReply(
            entries=[_entry(row) for row in rows],
            next_cursor=_cursor((rows[-1].at, rows[-1].audit_id)) if more else "",
        )


def _text(text: str) -> str:
    if "\0" in text:
        raise InvalidInput("a filter holds a NUL character", why="no row has one")
    return text


def _moment(request: pb.ListAuditRequest, field: str) -> datetime | None:
    if not request.HasField(field):  # type: ignore[arg-type]
        return None
    stamp: Timestamp = getattr(request, field)
    try:
        return stamp.ToDatetime(UTC)
    except (OverflowError, ValueError):
        raise InvalidInput(f"the time `{field}` is out of range") from None


def _cursor(place: Place) -> str:
    text = json.dumps(["audit", place[0].isoformat(), str(place[1])])
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _parse_cursor(text: str) -> Place | None:
    """Return the place that a cursor tells; None for no cursor. Raises InvalidInput for one that is not of ours."""
    if not text:
        return None
    try:
        kind, at, audit_id = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        place = (datetime.fromisoformat(at), UUID(audit_id))
        if kind != "audit" or place[0].tzinfo is None:
            raise ValueError(kind)
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        raise InvalidInput(
            "this cursor is not one of the audit's", why=f"it reads {text[:80]!r}", next_step="start without a cursor"
        ) from None
    return place


def _entry(row: AuditRow) -> pb.AuditEntry:
    return pb.AuditEntry(
        id=str(row.audit_id),
        at=encode.timestamp(row.at),
        caller_kind=row.caller_kind,
        caller_id=row.caller_id,
        caller_name=row.caller_name,
        caller_role=row.caller_role,
        caller_host=row.caller_host,
        peer_address=row.peer_address,
        method=row.method,
        target=row.target,
        request_id=row.request_id,
        outcome=row.outcome,
        detail=row.detail,
        tenant=row.tenant,
    )
