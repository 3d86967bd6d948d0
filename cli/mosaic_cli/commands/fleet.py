"""mosaic fleet: apply, ps, comms-block, start, stop, restart; verbs on roster files: fleet_files, fleet_changes."""

from __future__ import annotations

from typing import Annotated

import typer

from mosaic_cli import completion, failures, groups, options, output
from mosaic_cli.commands import fleet_changes, fleet_files, fleet_machine, fleet_pause, fleet_status
from mosaic_cli.output import Format

app = groups.noun("fleet", "The roster of a tenant, and the seats it makes.")
app.add_typer(fleet_files.app)
app.add_typer(fleet_changes.app)
app.add_typer(fleet_machine.app)
app.add_typer(fleet_pause.app)
app.add_typer(fleet_status.app)

Agents = Annotated[
    list[str] | None,
    typer.Argument(metavar="[AGENT]...", help="agent or host/agent.", autocompletion=completion.agents),
]
All = Annotated[bool, typer.Option("--all", help="Every seat of the tenant.")]
Host = Annotated[str, typer.Option("--host", help="Only on this host.", autocompletion=completion.hosts)]
Class = Annotated[str, typer.Option("--class", help="Only of this class.")]
Runtime = Annotated[str, typer.Option("--runtime", help="Only of this runtime.")]
State = Annotated[str, typer.Option("--state", help="Only in this state.")]


@app.command("apply")
def apply(
    roster: options.Roster = None,
    dry_run: options.DryRun = False,
    base: Annotated[
        int | None,
        typer.Option("--base", help="The applied version this edit started from; default: the last one applied here."),
    ] = None,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Move agents off a host that cannot be reached, too: they may run twice until it is back."
        ),
    ] = False,
    yes: options.Yes = False,
    timeout: options.Timeout = 60.0,
    detach: options.Detach = False,
    output_form: options.Output = Format.TABLE,
    context: options.Context = "",
    tenant: options.Tenant = "",
) -> None:
    """Make a roster file the desired one, and wait until its seats are up."""
    from mosaic_cli.apply import Wish, apply_roster

    wish = Wish(path=roster, base=base, dry_run=dry_run, yes=yes, detach=detach, timeout=timeout, force=force)
    output.show(apply_roster(wish, context=context, tenant=tenant), output_form)


@app.command("watch")
def watch_changes(
    cursor: Annotated[str, typer.Option("--cursor", help="Go on after this one, of an earlier watch (-o json).")] = "",
    output_form: options.Output = Format.TABLE,
    context: options.Context = "",
    tenant: options.Tenant = "",
) -> None:
    """Show every change of agents and hosts, a line each, until interrupted."""
    from mosaic_cli.fleet_watch import watch_fleet

    watch_fleet(cursor=cursor, form=output_form, context=context, tenant=tenant)


@app.command("ps")
def ps(
    output_form: options.Output = Format.TABLE,
    watch: options.Watch = False,
    host: Host = "",
    class_: Class = "",
    runtime: Runtime = "",
    state: State = "",
    label: options.Label = None,
    cluster: options.Cluster = "*",
    context: options.Context = "",
    tenant: options.Tenant = "",
) -> None:
    """Show every seat, and sessions that are nobody's: what needs a person first, what may be old grey (exit 5).

    With what other clusters show of theirs; `--cluster` picks one, this one too by its own name.
    """
    from mosaic_cli import listing
    from mosaic_cli.fleet_view import PS_COLUMNS

    selection = listing.Selection(
        host=host, class_=class_, runtime=runtime, state=state, labels=options.labels(label or [])
    )
    listing.show_agents(
        selection,
        columns=PS_COLUMNS,
        form=output_form,
        watch=watch,
        context=context,
        tenant=tenant,
        whole=True,
        clusters=cluster,
    )


@app.command("comms-block")
def comms_block(
    name: Annotated[
        str, typer.Argument(metavar="AGENT", help="agent or host/agent.", autocompletion=completion.agents)
    ],
    host: Host = "",
    output_form: options.Output = Format.TABLE,
    context: options.Context = "",
    tenant: options.Tenant = "",
) -> None:
    """Show an agent's comms block as it is now: its address, its peers, how to reach them, how to take work."""
    from mosaic_cli.seed_view import show_comms_block

    show_comms_block(name, host=host, form=output_form, context=context, tenant=tenant)


@app.command("start")
def start(
    agents: Agents = None,
    every: All = False,
    timeout: options.Timeout = 60.0,
    detach: options.Detach = False,
    output_form: options.Output = Format.TABLE,
    context: options.Context = "",
    tenant: options.Tenant = "",
) -> None:
    """Start seats, and wait until they are up."""
    _change("start", agents, every, timeout, detach, output_form, context, tenant)


@app.command("stop")
def stop(
    agents: Agents = None,
    every: All = False,
    timeout: options.Timeout = 60.0,
    detach: options.Detach = False,
    output_form: options.Output = Format.TABLE,
    context: options.Context = "",
    tenant: options.Tenant = "",
) -> None:
    """Stop seats, and wait until they are gone. They stay stopped until they are started."""
    _change("stop", agents, every, timeout, detach, output_form, context, tenant)


@app.command("restart")
def restart(
    agents: Agents = None,
    every: All = False,
    timeout: options.Timeout = 60.0,
    detach: options.Detach = False,
    output_form: options.Output = Format.TABLE,
    context: options.Context = "",
    tenant: options.Tenant = "",
) -> None:
    """Restart seats, and wait until they are up again."""
    _change("restart", agents, every, timeout, detach, output_form, context, tenant)


def _change(
    action: str,
    agents: list[str] | None,
    every: bool,
    timeout: float,
    detach: bool,
    form: Format,
    context: str,
    tenant: str,
) -> None:
    if bool(agents) == every:
        raise failures.UsageError(
            "name the agents, or say --all" if not agents else "name agents or say --all, not both",
            next_step=f"mosaic fleet {action} AGENT…, or: mosaic fleet {action} --all",
        )
    from mosaic_cli.change import change_seats

    listing = change_seats(action, agents or [], timeout=timeout, detach=detach, context=context, tenant=tenant)
    output.show(listing, form)
