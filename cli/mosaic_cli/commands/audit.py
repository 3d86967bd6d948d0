"""mosaic audit: ls."""

from __future__ import annotations

from typing import Annotated

import typer

from mosaic_cli import groups, options, output
from mosaic_cli.output import Format

app = groups.noun("audit", "What was done, by whom, from where, and what came of it.")

_AT = "A time (2026-03-01, 2026-03-01T09:30, or with a zone), or an age such as 2h or 7d."


@app.command("ls")
def list_audit(
    caller: Annotated[str, typer.Option("--caller", help="Only what this operator, agent or host did.")] = "",
    kind: Annotated[str, typer.Option("--kind", help="Only of operators, agents, hosts, …: operator, agent, …")] = "",
    method: Annotated[
        str, typer.Option("--method", help="Only this call: Send, MessageService or MessageService/Send.")
    ] = "",
    target: Annotated[str, typer.Option("--target", help="Only what was done to this, e.g. build1/coder0.")] = "",
    outcome: Annotated[str, typer.Option("--outcome", help="Only with this end: done, or an error's code.")] = "",
    failed: Annotated[bool, typer.Option("--failed", help="Only what was refused or failed.")] = False,
    since: Annotated[str, typer.Option("--since", metavar="TIME", help=f"Not older. {_AT}")] = "",
    until: Annotated[str, typer.Option("--until", metavar="TIME", help="Older than this.")] = "",
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="At most so many at once.")] = 50,
    cursor: Annotated[str, typer.Option("--cursor", help="Go on from here: what the page before ended with.")] = "",
    output_form: options.Output = Format.TABLE,
    context: options.Context = "",
    tenant: options.Tenant = "",
) -> None:
    """List what was written and what was refused, newest first. Claims and renewals are in the card's own history."""
    from mosaic_cli.failures import UsageError

    if failed and outcome:
        raise UsageError("--failed and --outcome exclude each other", next_step="say one of them")
    from mosaic_proto.v1 import people_pb2 as pb

    from mosaic_cli.audit_view import audit_listing, moment_of
    from mosaic_cli.client import connect

    asked = pb.ListAuditRequest(
        caller=caller,
        caller_kind=kind,
        method=method,
        target=target,
        outcome="failed" if failed else outcome,
        limit=limit,
        cursor=cursor,
    )
    for field, text in (("since", since), ("until", until)):
        if text:
            getattr(asked, field).FromDatetime(moment_of(text, option=f"--{field}"))
    with connect(context, tenant=tenant) as connection:
        asked.tenant = connection.tenant
        reply = connection.call(connection.audits.List, asked)
    output.show(audit_listing(reply), output_form)
    if reply.next_cursor and output_form in (Format.TABLE, Format.WIDE, Format.NAME):
        output.say(f"there is more; go on with: --cursor {reply.next_cursor}")
