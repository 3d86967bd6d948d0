"""mosaic fleet: add, remove, diff."""

from __future__ import annotations

import shlex
from typing import Annotated, Any

import typer

from mosaic_cli import completion, data_names, failures, options, output
from mosaic_cli.commands.fleet_files import pairs
from mosaic_cli.output import Format

app = typer.Typer()

FileOnly = Annotated[bool, typer.Option("--no-apply", help="Change the file alone; later: mosaic fleet apply.")]


@app.command("add")
def add(
    name: Annotated[str, typer.Argument(help="What the agent will be called.")],
    runtime: Annotated[
        str, typer.Option("--runtime", help="The program in the seat.", autocompletion=data_names.runtimes)
    ],
    class_: Annotated[
        str, typer.Option("--class", help="Its role; default: worker.", autocompletion=data_names.classes)
    ] = "",
    host: Annotated[str, typer.Option("--host", help="The host that runs it.", autocompletion=completion.hosts)] = "",
    alias: Annotated[str, typer.Option("--alias", help="A friendly name, for people.")] = "",
    working_directory: Annotated[str, typer.Option("--working-directory", help="Where it starts.")] = "",
    model: Annotated[str, typer.Option("--model", help="Handed to the program's model flag.")] = "",
    account: Annotated[str, typer.Option("--account", help="Which account of the provider it spends.")] = "",
    persistent: Annotated[
        bool, typer.Option("--persistent-persona", help="It keeps its persona between tasks.")
    ] = False,
    persona: Annotated[str, typer.Option("--persona", help="A persona of its own, kept between tasks.")] = "",
    reset: Annotated[
        bool, typer.Option("--reset-between-tasks", help="Each task starts with an empty context.")
    ] = False,
    on_demand: Annotated[bool, typer.Option("--on-demand", help="Started only when asked for.")] = False,
    reports_to: Annotated[str, typer.Option("--reports-to", help="The agent or class that it answers to.")] = "",
    kickstart: Annotated[str, typer.Option("--kickstart", help="The first prompt of a fresh seat.")] = "",
    unattended: Annotated[bool, typer.Option("--unattended", help="It acts without asking first.")] = False,
    arg: Annotated[
        list[str] | None, typer.Option("--arg", help="Appended to the program's own; again for each.")
    ] = None,
    command: Annotated[
        str, typer.Option("--command", help="Replaces program and arguments; quoted as for a shell.")
    ] = "",
    channel: Annotated[list[str] | None, typer.Option("--channel", help="A channel it reads; again for each.")] = None,
    env: Annotated[list[str] | None, typer.Option("--env", metavar="NAME=VALUE", help="Again for each.")] = None,
    socket: Annotated[str, typer.Option("--socket", help="A tmux socket of its own.")] = "",
    no_start: Annotated[bool, typer.Option("--no-start", help="Add it stopped; later: mosaic fleet start.")] = False,
    no_apply: FileOnly = False,
    roster: options.Roster = None,
    dry_run: options.DryRun = False,
    yes: options.Yes = False,
    timeout: options.Timeout = 60.0,
    detach: options.Detach = False,
    output_form: options.Output = Format.TABLE,
    context: options.Context = "",
    tenant: options.Tenant = "",
) -> None:
    """Add an agent to the roster, file and register both, and wait until it is up."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise failures.UsageError(f"--command is not understood: {error}") from error
    given: dict[str, Any] = {
        "name": name,
        "runtime": runtime,
        "class": class_,
        "host": host,
        "alias": alias,
        "working_directory": working_directory,
        "model_hint": model,
        "account": account,
        "persistent_persona": persona or persistent,
        "reset_between_tasks": reset,
        "lifecycle": "on-demand" if on_demand else "",
        "reports_to": reports_to,
        "kickstart_template": kickstart,
        "unattended": unattended,
        "args": arg,
        "command": words,
        "channels": channel,
        "env": pairs(env, "--env", empty=True),
        "socket": socket,
    }
    from mosaic_cli.roster_change import ChangeWish, agent_of
    from mosaic_cli.roster_change import add as add_to_roster

    # What was not said is not written.
    agent = agent_of({key: value for key, value in given.items() if value or key in ("name", "runtime")})
    wish = ChangeWish(roster, not no_apply, dry_run, yes, detach, timeout)
    output.show(add_to_roster(agent, wish, start=not no_start, context=context, tenant=tenant), output_form)


@app.command("remove")
def remove(
    names: Annotated[list[str], typer.Argument(metavar="AGENT...", autocompletion=completion.agents)],
    no_apply: FileOnly = False,
    roster: options.Roster = None,
    dry_run: options.DryRun = False,
    yes: options.Yes = False,
    timeout: options.Timeout = 60.0,
    detach: options.Detach = False,
    output_form: options.Output = Format.TABLE,
    context: options.Context = "",
    tenant: options.Tenant = "",
) -> None:
    """Remove agents from the roster, file and register both. The last holder of a floor class stays."""
    from mosaic_cli.roster_change import ChangeWish
    from mosaic_cli.roster_change import remove as remove_from_roster

    wish = ChangeWish(roster, not no_apply, dry_run, yes, detach, timeout)
    output.show(remove_from_roster(names, wish, context=context, tenant=tenant), output_form)


@app.command("diff")
def diff(
    take: Annotated[
        bool, typer.Option("--pull", help="Bring the register's roster into the file; comments and a backup are kept.")
    ] = False,
    roster: options.Roster = None,
    dry_run: options.DryRun = False,
    yes: options.Yes = False,
    output_form: options.Output = Format.TABLE,
    context: options.Context = "",
    tenant: options.Tenant = "",
) -> None:
    """Show what `apply` would do, host by host. Exit 0: nothing; 1: this; 6: another roster was applied meanwhile."""
    from mosaic_cli import roster_diff

    if take:
        done = roster_diff.pull(roster, dry_run=dry_run, yes=yes, context=context, tenant=tenant)
        output.show(done, output_form)
    else:
        roster_diff.show_difference(roster, output_form, context=context, tenant=tenant)
