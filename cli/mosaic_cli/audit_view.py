"""The audit, ready to be shown (pure but for the clock of `moment_of`)."""

from __future__ import annotations

import datetime as dt
from typing import Any

import typer
from mosaic_proto.v1 import people_pb2 as pb

from mosaic_cli.documents import moment, rfc3339
from mosaic_cli.failures import UsageError
from mosaic_cli.output import Column, Listing, Style
from mosaic_cli.text import duration, local_time


def moment_of(text: str, *, option: str) -> dt.datetime:
    """Return the time (aware UTC) that `text` names: an ISO 8601 date or time, local unless it says a zone, or an age.

    Raises UsageError that names the option.
    """
    try:
        if text[-1:] in ("s", "m", "h", "d"):
            return dt.datetime.now(dt.UTC) - dt.timedelta(seconds=duration(text))
        return dt.datetime.fromisoformat(text).astimezone(dt.UTC)
    except (ValueError, OverflowError, typer.BadParameter):
        raise UsageError(
            f"{option} {text!r} is no time", next_step="write 2026-03-01, 2026-03-01T09:30, or an age such as 2h or 7d"
        ) from None


def who(entry: pb.AuditEntry) -> str:
    """Return who did it as people write it: an operator with the role, an agent with its host."""
    name = f"{entry.caller_host}/{entry.caller_name}" if entry.caller_host else entry.caller_name
    shown = name or entry.caller_kind
    return f"{shown} ({entry.caller_role})" if entry.caller_role else shown


def entry_document(entry: pb.AuditEntry) -> dict[str, Any]:
    """Return an entry's JSON form."""
    return {
        "id": entry.id,
        "at": rfc3339(entry.at),
        "tenant": entry.tenant or None,
        "caller": {
            "kind": entry.caller_kind,
            "id": entry.caller_id or None,
            "name": entry.caller_name,
            "role": entry.caller_role,
            "host": entry.caller_host,
            "address": entry.peer_address,
        },
        "method": entry.method,
        "target": entry.target,
        "outcome": entry.outcome,
        "requestId": entry.request_id or None,
        "detail": dict(sorted(entry.detail.items())),
    }


def audit_listing(reply: pb.ListAuditReply) -> Listing[pb.AuditEntry]:
    """Return a page of the audit ready to be shown."""
    columns: list[Column[pb.AuditEntry]] = [
        Column("WHEN", lambda entry: local_time(moment(entry.at))),
        Column("WHO", who),
        Column("FROM", lambda entry: entry.peer_address),
        Column("WHAT", lambda entry: entry.method),
        Column("TARGET", lambda entry: entry.target),
        Column("OUTCOME", lambda entry: entry.outcome),
        Column("TENANT", lambda entry: entry.tenant, wide=True),
        Column("DETAIL", lambda entry: " ".join(f"{k}={v}" for k, v in sorted(entry.detail.items())), wide=True),
        Column("REQUEST", lambda entry: entry.request_id, wide=True),
        Column("ID", lambda entry: entry.id, wide=True),
    ]
    return Listing(
        "AuditList",
        reply.entries,
        columns,
        name=lambda entry: entry.id,
        document=entry_document,
        style=lambda entry: Style.PLAIN if entry.outcome == "done" else Style.ATTENTION,
        extra={"nextCursor": reply.next_cursor or None},
        empty="nothing was done that this asks for",
    )
