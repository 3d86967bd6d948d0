"""mosaic message: ls, show, cancel."""

from __future__ import annotations

from typing import Annotated

import typer

from mosaic_cli import completion, groups, options, output
from mosaic_cli.output import Format

app = groups.noun("message", "Messages to agents, and what is known of their delivery.")


@app.command("ls")
def list_messages(
    agent: Annotated[
        str, typer.Argument(metavar="[AGENT]", help="Only to this agent.", autocompletion=completion.agents)
    ] = "",
    open_only: Annotated[bool, typer.Option("--open", help="Only those not at an end.")] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="At most so many.")] = 50,
    output_form: options.Output = Format.TABLE,
    watch: options.Watch = False,
    context: options.Context = "",
    tenant: options.Tenant = "",
) -> None:
    """List messages, newest first."""
    if watch:
        from mosaic_cli.message_watch import watch_messages

        watch_messages(agent=agent, open_only=open_only, limit=limit, form=output_form, context=context, tenant=tenant)
        return
    from mosaic_proto.v1 import messages_pb2 as pb

    from mosaic_cli.client import connect
    from mosaic_cli.documents import now
    from mosaic_cli.receipts import message_listing

    with connect(context, tenant=tenant) as connection:
        request = pb.ListMessagesRequest(tenant=connection.tenant, agent=agent, open_only=open_only, limit=limit)
        reply = connection.call(connection.messages.List, request)
    output.show(message_listing(reply.receipts, now()), output_form)


@app.command("show")
def show(
    message_id: Annotated[str, typer.Argument(metavar="ID", help="The id, or the part of it that names one message.")],
    output_form: options.Output = Format.TABLE,
    context: options.Context = "",
    tenant: options.Tenant = "",
) -> None:
    """Show one message: its receipt with the evidence for each step, and its text."""
    from mosaic_proto.v1 import messages_pb2 as pb

    from mosaic_cli.client import connect
    from mosaic_cli.receipts import receipt_thing
    from mosaic_cli.text import safe_lines

    with connect(context, tenant=tenant) as connection:
        request = pb.ShowMessageRequest(tenant=connection.tenant, message_id=message_id)
        reply = connection.call(connection.messages.Show, request)
    form_is_for_people = output_form in (Format.TABLE, Format.WIDE)
    body = safe_lines(reply.body) if form_is_for_people else reply.body
    extra = {"replyTo": reply.reply_to or None, "threadId": reply.thread_id or None}
    output.show(receipt_thing(reply.receipt, body=body, extra=extra), output_form)


@app.command("cancel")
def cancel(
    message_id: Annotated[str, typer.Argument(metavar="ID", help="The id, or the part of it that names one message.")],
    timeout: options.Timeout = 15.0,
    detach: options.Detach = False,
    output_form: options.Output = Format.TABLE,
    context: options.Context = "",
    tenant: options.Tenant = "",
) -> None:
    """Take a message back that has not been typed yet; one that its host has is asked for there, and waited for."""
    from mosaic_cli import cancel

    cancel.run(message_id, timeout=timeout, detach=detach, form=output_form, context=context, tenant=tenant)
