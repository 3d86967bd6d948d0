"""mosaic fleet status: the fleet on one screen."""

from __future__ import annotations

import typer

from mosaic_cli import options, output
from mosaic_cli.output import Format

app = typer.Typer()


@app.command("status")
def status(
    output_form: options.Output = Format.TABLE, context: options.Context = "", tenant: options.Tenant = ""
) -> None:
    """Show a row for each host: agents by state, how many need a person or have drifted (exit 5: one is silent)."""
    from mosaic_framework.errors import EXIT_UNREACHABLE

    from mosaic_cli.client import connect
    from mosaic_cli.fleet_summary import summaries, summary_listing
    from mosaic_cli.fleet_view import agent_rows

    with connect(context, tenant=tenant) as connection:
        reply = connection.list_agents()
    found = summaries(reply.hosts, agent_rows(reply.agents, reply.hosts, reply.at), reply.at)
    output.show(summary_listing(found, reply.at), output_form)
    if reply.paused:
        output.say("the fleet is paused")
    if any(one.old for one in found):
        raise typer.Exit(EXIT_UNREACHABLE)
