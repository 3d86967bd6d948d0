"""mosaic backlog: ls, show, stats, verify, export, import; other verbs are in backlog_cards and backlog_claims."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mosaic_cli import completion, groups, options, output
from mosaic_cli.commands import backlog_cards, backlog_claims
from mosaic_cli.commands.backlog_cards import RequestId
from mosaic_cli.output import Format
from mosaic_cli.text import duration

app = groups.noun("backlog", "The backlog: cards in a graph, each claimed by one holder at a time.")
app.add_typer(backlog_cards.app)
app.add_typer(backlog_claims.app)


@app.command("ls")
def list_cards(
    ready: Annotated[bool, typer.Option("--ready", help="Only what can be claimed now, best first.")] = False,
    every: Annotated[bool, typer.Option("--all", help="Also those done and cancelled.")] = False,
    status: Annotated[list[str] | None, typer.Option("--status", help="Only in this status; again for each.")] = None,
    class_: Annotated[str, typer.Option("--class", help="Only those for this class.")] = "",
    label: Annotated[list[str] | None, typer.Option("--label", help="Only with this label; again for each.")] = None,
    mission: Annotated[str, typer.Option("--mission", help="Only of this mission.")] = "",
    phase: Annotated[str, typer.Option("--phase", help="Only of this phase.")] = "",
    holder: Annotated[
        str, typer.Option("--holder", help="Only what this agent holds.", autocompletion=completion.agents)
    ] = "",
    repository: Annotated[str, typer.Option("--repository", help="Only of this repository.")] = "",
    goal: Annotated[str, typer.Option("--goal", help="Only for this goal.")] = "",
    requirement: Annotated[str, typer.Option("--requirement", help="Only for this requirement.")] = "",
    text: Annotated[str, typer.Option("--text", help="Only with this in the title or the id.")] = "",
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="At most so many.")] = 100,
    cursor: Annotated[str, typer.Option("--cursor", help="The page after the one that told this cursor.")] = "",
    output_form: options.Output = Format.TABLE,
    watch: options.Watch = False,
    context: options.Context = "",
    tenant: options.Tenant = "",
) -> None:
    """List cards: what is being worked on first, then what needs a person, then what is ready."""
    from mosaic_proto.v1 import backlog_pb2 as pb

    from mosaic_cli.backlog import reading

    request = pb.ListCardsRequest(
        statuses=reading.statuses(status or []),
        all=every,
        ready=ready,
        labels=label or [],
        mission=mission,
        phase=phase,
        holder=holder,
        repository=repository,
        goal=goal,
        requirement=requirement,
        text=text,
        limit=limit,
        cursor=cursor,
    )
    setattr(request, "class", class_)  # a word of Python's own
    if watch:
        from mosaic_cli.backlog import watching

        watching.watch_cards(request, form=output_form, context=context, tenant=tenant)
        return
    reading.list_cards(request, form=output_form, context=context, tenant=tenant)


@app.command("show")
def show(
    card: Annotated[str, typer.Argument(metavar="[CARD]", help="Default: the card that you hold.")] = "",
    history: Annotated[int, typer.Option("--history", min=1, max=1000, help="At most so many transitions.")] = 100,
    depth: Annotated[int, typer.Option("--depth", min=0, max=50, help="How deep the tree is drawn; 0: no tree.")] = 5,
    claimant: backlog_claims.Claimant = "",
    output_form: options.Output = Format.TABLE,
    context: options.Context = "",
    tenant: options.Tenant = "",
) -> None:
    """Show one card: what it says, what it depends on and what waits for it, and every transition."""
    from mosaic_proto.v1 import backlog_pb2 as pb

    from mosaic_cli.backlog.view import shown_card
    from mosaic_cli.client import connect

    with connect(context, tenant=tenant) as connection:
        request = pb.ShowCardRequest(
            tenant=connection.tenant,
            card_id=card,
            history_limit=history,
            tree_depth=depth or -1,
            claimant_id=claimant,
        )
        reply = connection.call(connection.backlog.Show, request)
    output.show(shown_card(reply), output_form)


@app.command("stats")
def stats(
    window: Annotated[
        float, typer.Option("--window", parser=duration, metavar="TIME", help="What counts as lately, at most 30d.")
    ] = 86_400.0,
    output_form: options.Output = Format.TABLE,
    context: options.Context = "",
    tenant: options.Tenant = "",
) -> None:
    """Show how the backlog moves: counts, what has waited longest, expired claims, throughput, time to claim."""
    from mosaic_proto.v1 import backlog_pb2 as pb

    from mosaic_cli.backlog.calls import span
    from mosaic_cli.backlog.view import stats_thing
    from mosaic_cli.client import connect

    with connect(context, tenant=tenant) as connection:
        request = pb.BacklogStatsRequest(tenant=connection.tenant, window=span(window))
        reply = connection.call(connection.backlog.Stats, request)
    output.show(stats_thing(reply), output_form)


@app.command("verify")
def verify(
    output_form: options.Output = Format.TABLE,
    context: options.Context = "",
    tenant: options.Tenant = "",
) -> None:
    """Compute anew what is kept about the graph, and compare; ends with 1 where anything differs."""
    from mosaic_cli.backlog import reading

    reading.verify(form=output_form, context=context, tenant=tenant)


@app.command("export")
def export(
    file: Annotated[
        Path | None, typer.Option("--file", "-f", help="Write to this file, new or not at all; default: stdout.")
    ] = None,
    history: Annotated[bool, typer.Option("--history/--no-history", help="With every transition.")] = True,
    context: options.Context = "",
    tenant: options.Tenant = "",
) -> None:
    """Write every card with its dependencies and history, one JSON object a line; `backlog import` reads it."""
    from mosaic_cli.backlog import transfer

    transfer.export_cards(file, history=history, context=context, tenant=tenant)


@app.command("import")
def import_(
    file: Annotated[
        str, typer.Option("--file", "-f", help="What an export wrote; - or nothing: standard input.")
    ] = "-",
    request_id: RequestId = "",
    output_form: options.Output = Format.TABLE,
    context: options.Context = "",
    tenant: options.Tenant = "",
) -> None:
    """Bring exported cards in, all or none. A card that is here already, and equal, is left as it is."""
    from mosaic_cli.backlog import transfer

    transfer.import_cards(file, request_id=request_id, form=output_form, context=context, tenant=tenant)
