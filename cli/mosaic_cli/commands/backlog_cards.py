"""mosaic backlog: create, update, link, unlink, unblock, cancel, reclaim."""

from __future__ import annotations

from typing import Annotated

import typer

from mosaic_cli import asking, completion, data_names, failures, options, output
from mosaic_cli.output import Format
from mosaic_cli.text import duration

app = typer.Typer()

RequestId = Annotated[
    str, typer.Option("--request-id", help="Repeat a call under the id it had: it is done once, whatever was lost.")
]
Card = Annotated[str, typer.Argument(metavar="CARD", help="The id, or the part of it that names one card.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; it stands in the history.")]


@app.command("create")
def create(
    title: Annotated[str, typer.Argument(metavar="[TITLE]", help="What is to be done, in a line.")] = "",
    source: Annotated[
        str, typer.Option("--from", metavar="FILE", help="Many cards: YAML, JSON or JSON lines; - is standard input.")
    ] = "",
    body: Annotated[str | None, typer.Option("--body", "-m", help="The text of the card.")] = None,
    body_file: Annotated[str | None, typer.Option("--file", "-f", help="The text, from a file or - .")] = None,
    card_id: Annotated[str, typer.Option("--id", help="Its id; default: one is made.")] = "",
    mission: Annotated[str, typer.Option("--mission", help="The mission it belongs to.")] = "",
    phase: Annotated[str, typer.Option("--phase", help="The phase of the mission.")] = "",
    priority: Annotated[int, typer.Option("--priority", "-p", help="Higher first, then oldest.")] = 0,
    urgency: Annotated[str, typer.Option("--urgency", help="low, normal, high or critical.")] = "normal",
    class_: Annotated[
        str, typer.Option("--class", help="Only this class may claim it.", autocompletion=data_names.classes)
    ] = "",
    label: Annotated[list[str] | None, typer.Option("--label", help="A label; again for each.")] = None,
    acceptance: Annotated[list[str] | None, typer.Option("--accept", help="When it is done; again for each.")] = None,
    depends_on: Annotated[
        list[str] | None, typer.Option("--depends-on", help="A card that must be done before; again for each.")
    ] = None,
    goal: Annotated[list[str] | None, typer.Option("--goal", help="A goal's id; again for each.")] = None,
    requirement: Annotated[list[str] | None, typer.Option("--requirement", help="Again for each.")] = None,
    repository: Annotated[str, typer.Option("--repository", help="Where the work goes.")] = "",
    branch: Annotated[str, typer.Option("--branch", help="On which branch.")] = "",
    gated: Annotated[bool, typer.Option("--gated", help="Its change is proposed, and a gate completes it.")] = False,
    attempts: Annotated[
        int, typer.Option("--attempts", min=0, help="Claims before it is blocked; 0: the default.")
    ] = 0,
    time_limit: Annotated[
        str, typer.Option("--time-limit", metavar="TIME", help="Of one claim, by the wall clock; default: 4h.")
    ] = "",
    estimate_cost: Annotated[float, typer.Option("--estimate-cost", min=0, help="In the account's currency.")] = 0.0,
    estimate_tokens: Annotated[int, typer.Option("--estimate-tokens", min=0)] = 0,
    estimate_time: Annotated[float, typer.Option("--estimate-time", parser=duration, metavar="TIME")] = 0.0,
    key: Annotated[str, typer.Option("--key", help="Idempotency: a card made with this key is returned instead.")] = "",
    request_id: RequestId = "",
    output_form: options.Output = Format.TABLE,
    context: options.Context = "",
    tenant: options.Tenant = "",
) -> None:
    """Create one card, or with --from many in one transaction: all of them, or none and every problem at its line."""
    from mosaic_cli.backlog import creating

    if bool(title) == bool(source):
        raise failures.UsageError(
            "say the title of one card, or --from FILE for many" + (", not both" if title else ""),
            next_step="mosaic backlog create 'Fix the login page', or: mosaic backlog create --from cards.yaml",
        )
    wish = creating.Wish(request_id=request_id, form=output_form, context=context, tenant=tenant)
    if source:
        creating.create_from(source, wish)
        return
    entry = {
        "id": card_id,
        "title": title,
        "body": creating.body_of(body, body_file),
        "mission": mission,
        "phase": phase,
        "priority": priority,
        "urgency": urgency,
        "class": class_,
        "labels": label or [],
        "acceptance": acceptance or [],
        "goals": goal or [],
        "requirements": requirement or [],
        "repository": repository,
        "branch": branch,
        "gated": gated,
        "attempt_limit": attempts,
        "time_limit": time_limit or None,
        "depends_on": depends_on or [],
        "idempotency_key": key,
        "estimate": {"cost": estimate_cost, "tokens": estimate_tokens, "time": f"{estimate_time}s"},
    }
    creating.create_one(entry, wish)


@app.command("update")
def update(
    card: Card,
    assignments: Annotated[
        list[str],
        typer.Argument(metavar="FIELD=VALUE...", help="Such as priority=5 or labels=a,b; a list is replaced."),
    ],
    request_id: RequestId = "",
    output_form: options.Output = Format.TABLE,
    context: options.Context = "",
    tenant: options.Tenant = "",
) -> None:
    """Change what a card says; never its status."""
    from mosaic_proto.v1 import backlog_pb2 as pb

    from mosaic_cli.backlog import calls, creating
    from mosaic_cli.backlog.view import card_thing
    from mosaic_cli.client import connect

    content, fields = creating.changes(assignments)
    with connect(context, tenant=tenant) as connection:
        request = pb.UpdateCardRequest(tenant=connection.tenant, card_id=card, content=content, fields=fields)
        reply = calls.write(connection, lambda stub: stub.Update, request, request_id=request_id)
    output.show(card_thing(reply.card), output_form)


@app.command("link")
def link(
    card: Card,
    depends_on: Annotated[list[str], typer.Argument(metavar="DEPENDS_ON...", help="Cards that must be done before.")],
    request_id: RequestId = "",
    output_form: options.Output = Format.TABLE,
    context: options.Context = "",
    tenant: options.Tenant = "",
) -> None:
    """Let CARD wait for others. What would close a circle is refused, and the circle is told."""
    from mosaic_proto.v1 import backlog_pb2 as pb

    request = pb.LinkRequest(card_id=card, depends_on=depends_on)
    _change("Link", request, request_id, output_form, context, tenant)


@app.command("unlink")
def unlink(
    card: Card,
    depends_on: Annotated[list[str], typer.Argument(metavar="DEPENDS_ON...", help="Cards it waits for no more.")],
    request_id: RequestId = "",
    output_form: options.Output = Format.TABLE,
    context: options.Context = "",
    tenant: options.Tenant = "",
) -> None:
    """Let CARD wait for others no more."""
    from mosaic_proto.v1 import backlog_pb2 as pb

    request = pb.LinkRequest(card_id=card, depends_on=depends_on)
    _change("Unlink", request, request_id, output_form, context, tenant)


@app.command("unblock")
def unblock(
    card: Card,
    reason: Reason = "",
    request_id: RequestId = "",
    output_form: options.Output = Format.TABLE,
    context: options.Context = "",
    tenant: options.Tenant = "",
) -> None:
    """Make a blocked card ready again; its attempts are counted anew."""
    from mosaic_proto.v1 import backlog_pb2 as pb

    _change("Unblock", pb.UnblockRequest(card_id=card, reason=reason), request_id, output_form, context, tenant)


@app.command("cancel")
def cancel(
    card: Card,
    reason: Reason = "",
    yes: options.Yes = False,
    dry_run: options.DryRun = False,
    request_id: RequestId = "",
    output_form: options.Output = Format.TABLE,
    context: options.Context = "",
    tenant: options.Tenant = "",
) -> None:
    """Give a card up for good. Whoever holds it loses it; what depends on it waits until that is unlinked."""
    from mosaic_proto.v1 import backlog_pb2 as pb

    if dry_run:
        from mosaic_cli.backlog import previews

        previews.cancelled(card, form=output_form, context=context, tenant=tenant)
        return
    asking.agree(f"cancel card {card} for good", yes=yes)
    _change("Cancel", pb.CancelRequest(card_id=card, reason=reason), request_id, output_form, context, tenant)


@app.command("reclaim")
def reclaim(
    cards: Annotated[list[str] | None, typer.Argument(metavar="[CARD]...", help="These cards.")] = None,
    agent: Annotated[
        str, typer.Option("--agent", help="All that this agent holds.", autocompletion=completion.agents)
    ] = "",
    expired: Annotated[bool, typer.Option("--expired", help="All whose lease is over, now.")] = False,
    reason: Reason = "",
    yes: options.Yes = False,
    dry_run: options.DryRun = False,
    request_id: RequestId = "",
    output_form: options.Output = Format.TABLE,
    context: options.Context = "",
    tenant: options.Tenant = "",
) -> None:
    """Take cards back from whoever holds them: their claims end at once, and later writes under them are refused."""
    from mosaic_proto.v1 import backlog_pb2 as pb

    from mosaic_cli.backlog import calls
    from mosaic_cli.backlog.view import card_listing
    from mosaic_cli.client import connect
    from mosaic_cli.documents import now

    if sum((bool(cards), bool(agent), expired)) != 1:
        raise failures.UsageError("name cards, or say --agent, or --expired", next_step="mosaic backlog ls")
    if dry_run:
        from mosaic_cli.backlog import previews

        previews.reclaimed(cards or [], agent=agent, expired=expired, form=output_form, context=context, tenant=tenant)
        return
    if not expired:
        asking.agree(
            f"take {', '.join(cards or [])} from whoever holds it" if cards else f"take all from {agent}", yes=yes
        )
    with connect(context, tenant=tenant) as connection:
        request = pb.ReclaimRequest(
            tenant=connection.tenant, card_ids=cards or [], agent=agent, expired=expired, reason=reason
        )
        reply = calls.write(connection, lambda stub: stub.Reclaim, request, request_id=request_id)
    output.show(card_listing(reply.cards, now(), empty="nothing was held"), output_form)


def _change(method: str, request: object, request_id: str, form: Format, context: str, tenant: str) -> None:
    from mosaic_cli.backlog.changing import change

    change(method, request, request_id=request_id, form=form, context=context, tenant=tenant)
