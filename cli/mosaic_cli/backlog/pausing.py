"""Pausing a tenant's backlog, and letting it go on."""

from __future__ import annotations

from mosaic_proto.v1 import backlog_pb2 as pb

from mosaic_cli import output
from mosaic_cli.backlog import calls
from mosaic_cli.client import connect
from mosaic_cli.documents import moment, rfc3339
from mosaic_cli.output import Format, Thing
from mosaic_cli.text import local_time


def pause_or_resume(method: str, *, reason: str, form: Format, context: str, tenant: str) -> None:
    """Call Pause or Resume, and show how it is then."""
    with connect(context, tenant=tenant) as connection:
        request = pb.PauseRequest(tenant=connection.tenant, reason=reason)
        reply: pb.PauseReply = calls.write(connection, lambda stub: getattr(stub, method), request)
        name = connection.tenant
    state = "paused" if reply.paused else "not paused"
    lines = [
        ("tenant", name),
        ("backlog", state),
        ("by", reply.by if reply.paused else ""),
        ("since", local_time(moment(reply.at)) if reply.paused else ""),
        ("reason", reply.reason),
    ]
    body = {
        "tenant": name,
        "paused": reply.paused,
        "by": reply.by or None,
        "at": rfc3339(reply.at),
        "reason": reply.reason,
        "changed": reply.changed,
    }
    if not reply.changed:
        output.say(f"it was {state} already")
    output.show(Thing("Pause", name, body, lines), form)
