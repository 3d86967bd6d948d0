"""mosaic agent: ls, show, explain, report, send, interrupt, reset, tail, watch, attach."""

from __future__ import annotations

from typing import Annotated

import typer

from mosaic_cli import completion, failures, groups, options, output
from mosaic_cli.output import Format
from mosaic_cli.text import duration

app = groups.noun("agent", "One agent.")
Address = Annotated[str, typer.Argument(metavar="AGENT", help="agent or host/agent.", autocompletion=completion.agents)]
AnyAddress = Annotated[
    str,
    typer.Argument(
        metavar="AGENT", help="agent, host/agent, or of a peer cluster/host/agent.", autocompletion=completion.agents
    ),
]


@app.command("ls")
def list_agents(
    output_form: options.Output = Format.TABLE,
    watch: options.Watch = False,
    host: Annotated[str, typer.Option("--host", help="Only on this host.", autocompletion=completion.hosts)] = "",
    class_: Annotated[str, typer.Option("--class", help="Only of this class.")] = "",
    runtime: Annotated[str, typer.Option("--runtime", help="Only of this runtime.")] = "",
    state: Annotated[str, typer.Option("--state", help="Only in this state.")] = "",
    label: options.Label = None,
    cluster: options.Cluster = "",
    context: options.Context = "",
    tenant: options.Tenant = "",
) -> None:
    """List agents, those that need a person first."""
    from mosaic_cli import listing
    from mosaic_cli.fleet_view import LS_COLUMNS

    selection = listing.Selection(
        host=host, class_=class_, runtime=runtime, state=state, labels=options.labels(label or [])
    )
    listing.show_agents(
        selection,
        columns=LS_COLUMNS,
        form=output_form,
        watch=watch,
        context=context,
        tenant=tenant,
        clusters=cluster,
    )


@app.command("show")
def show(
    address: Address,
    contract: Annotated[
        bool, typer.Option("--contract", help="Show instead what it boots with: contract, mission, peers and all.")
    ] = False,
    output_form: options.Output = Format.TABLE,
    context: options.Context = "",
    tenant: options.Tenant = "",
) -> None:
    """Show one agent: its state with the evidence for it, its run, what is wanted of it."""
    if contract:
        from mosaic_cli.seed_view import show_contract

        show_contract(address, form=output_form, context=context, tenant=tenant)
        return
    from mosaic_cli.agent_view import show_agent

    output.show(show_agent(address, context=context, tenant=tenant), output_form)


@app.command("explain")
def explain(
    address: Address,
    output_form: options.Output = Format.TABLE,
    context: options.Context = "",
    tenant: options.Tenant = "",
) -> None:
    """Say why an agent is in its state: every signal with its age, and the rule that decided. Asks its host now."""
    from mosaic_cli.explain_view import explain_agent

    output.show(explain_agent(address, context=context, tenant=tenant), output_form)


@app.command("report")
def report(
    state: Annotated[str, typer.Argument(metavar="STATE", help="working, available, waiting or stuck.")],
    message: Annotated[str, typer.Option("--message", "-m", help="Why, in one line.")] = "",
) -> None:
    """From inside a pane: say in which state its agent is. For programs that say nothing by themselves."""
    from mosaic_cli.report import report as tell

    output.say(f"{tell(state, message)} is {state}")


@app.command("send")
def send(
    address: Annotated[
        str,
        typer.Argument(
            metavar="[AGENT]",
            help="agent, host/agent, or of a peer cluster/host/agent.",
            autocompletion=completion.agents,
        ),
    ] = "",
    text: Annotated[str | None, typer.Option("--message", "-m", help="The text itself.")] = None,
    file: Annotated[str | None, typer.Option("--file", "-f", help="Read the text from this file; '-': stdin.")] = None,
    verify: Annotated[
        str, typer.Option("--verify", metavar="STEP", help="Wait for this step, e.g. submitted or turn_ended.")
    ] = "",
    deadline: Annotated[
        float, typer.Option("--deadline", parser=duration, metavar="TIME", help="Give up delivering after; 0: 24 h.")
    ] = 0.0,
    when_idle: Annotated[bool, typer.Option("--when-idle", help="Not before the agent is done with its work.")] = False,
    interrupt_first: Annotated[
        bool, typer.Option("--interrupt", help="Interrupt what it works on, then send; before what else waits.")
    ] = False,
    sender: Annotated[
        str, typer.Option("--from", metavar="AGENT", help="Send in the name of this agent; an admin may.")
    ] = "",
    reply_to: Annotated[str, typer.Option("--reply-to", help="The id of the message this answers.")] = "",
    message_id: Annotated[
        str, typer.Option("--id", help="Repeat a send under the id it had: it arrives once, whatever was lost.")
    ] = "",
    allow_secrets: Annotated[
        bool, typer.Option("--allow-secrets", help="Send it though it holds what looks like a secret; it is audited.")
    ] = False,
    queue: Annotated[
        bool,
        typer.Option("--queue", help="To a peer that is away: let it wait here until then, and not after --deadline."),
    ] = False,
    host: Annotated[str, typer.Option("--host", help="To all on these hosts: a name, or 'web*'.")] = "",
    class_: Annotated[str, typer.Option("--class", help="To all of this class.")] = "",
    runtime: Annotated[str, typer.Option("--runtime", help="To all of this runtime.")] = "",
    state: Annotated[str, typer.Option("--state", help="To all in this state.")] = "",
    label: options.Label = None,
    every: Annotated[bool, typer.Option("--all", help="To every agent of the tenant.")] = False,
    yes: options.Yes = False,
    dry_run: options.DryRun = False,
    timeout: options.Timeout = 60.0,
    detach: options.Detach = False,
    output_form: options.Output = Format.TABLE,
    context: options.Context = "",
    tenant: options.Tenant = "",
) -> None:
    """Send a text to an agent, and follow it until it is accepted, or submitted where the runtime cannot say more.

    The text comes from -m, -f FILE, or standard input (-f -). It is typed as soon as the agent's composer may be
    typed into, and waits in its queue until then. Steps are told on stderr, the receipt on stdout; with -o json each
    step is an object on a line of its own, the receipt the last one.
    """
    from mosaic_cli import message_text, send, send_many
    from mosaic_cli.listing import Selection

    selection = Selection(host=host, class_=class_, runtime=runtime, state=state, labels=options.labels(label or []))
    many = every or selection != Selection()
    if many == bool(address):
        raise failures.UsageError(
            "say one agent, or selectors, not both" if many else "no agent is named",
            next_step="mosaic agent send AGENT …, or: mosaic agent send --class CLASS …, or --all",
        )
    wish = send.Wish(
        to=address,
        body=message_text.read(text, file, allow_secrets=allow_secrets),
        allow_secrets=allow_secrets,
        message_id=send.check_id(message_id),
        verify=send.check_step(verify),
        deadline=deadline,
        mode=send.mode_of(when_idle=when_idle, interrupt=interrupt_first),
        sender=sender,
        reply_to=reply_to,
        timeout=timeout,
        detach=detach,
        queue=queue,
    )
    if many:
        send_many.run(wish, selection, yes=yes, dry_run=dry_run, form=output_form, context=context, tenant=tenant)
    elif not dry_run:
        send.run(wish, form=output_form, context=context, tenant=tenant)
    else:
        output.write(f"{address}\n")


@app.command("interrupt")
def interrupt(
    address: AnyAddress,
    timeout: options.Timeout = 30.0,
    detach: options.Detach = False,
    output_form: options.Output = Format.TABLE,
    context: options.Context = "",
    tenant: options.Tenant = "",
) -> None:
    """Interrupt what an agent works on, with its runtime's own key, and see it stop; not later than --timeout."""
    from mosaic_cli import send

    wish = send.interruption(address, timeout=timeout, detach=detach)
    send.run(wish, form=output_form, context=context, tenant=tenant)


@app.command("reset")
def reset(
    addresses: Annotated[
        list[str],
        typer.Argument(metavar="AGENT...", help="agent or host/agent.", autocompletion=completion.agents),
    ],
    clear: Annotated[bool, typer.Option("--clear", help="By the program's /clear.")] = False,
    new: Annotated[bool, typer.Option("--new", help="By the program's /new.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Restart it now, whatever it does, also in a dialog.")] = False,
    timeout: options.Timeout = 60.0,
    detach: options.Detach = False,
    output_form: options.Output = Format.TABLE,
    context: options.Context = "",
    tenant: options.Tenant = "",
) -> None:
    """Empty an agent's context, as a new run: by its program's own command, by a restart where it has none.

    Waits until the agent is available; messages to it wait meanwhile. Nothing is typed into a dialog.
    """
    if clear + new + force > 1:
        from mosaic_cli.failures import UsageError

        raise UsageError("say one of --clear, --new and --force", next_step="mosaic agent reset AGENT")
    from mosaic_cli.reset import reset_agents

    way = "clear" if clear else "new" if new else "restart" if force else ""
    listing = reset_agents(addresses, way=way, timeout=timeout, detach=detach, context=context, tenant=tenant)
    output.show(listing, output_form)


@app.command("tail")
def tail(
    address: AnyAddress,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, max=10_000, help="Lines above the screen, too.")] = 0,
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on: lines as they are finished, or screens as they come to rest.")
    ] = False,
    output_form: options.Output = Format.TABLE,
    context: options.Context = "",
    tenant: options.Tenant = "",
) -> None:
    """Show what is on an agent's terminal now."""
    if follow:
        from mosaic_cli.tail_follow import follow_terminal

        follow_terminal(address, lines=lines, form=output_form, context=context, tenant=tenant)
        return
    from mosaic_cli.agent_view import tail_agent

    tail_agent(address, lines=lines, form=output_form, context=context, tenant=tenant)


@app.command("watch")
def watch(
    address: AnyAddress,
    output_form: options.Output = Format.TABLE,
    context: options.Context = "",
    tenant: options.Tenant = "",
) -> None:
    """Watch an agent's terminal live. Read-only: q leaves, and no other key does anything.

    A picture larger than this terminal is clipped. Off a terminal each new screen is printed as text.
    """
    from mosaic_cli.watch_terminal import watch_terminal

    watch_terminal(address, form=output_form, context=context, tenant=tenant)


@app.command("attach")
def attach(
    address: Address,
    take: Annotated[bool, typer.Option("--take", help="Take it over from whoever drives it now.")] = False,
    context: options.Context = "",
    tenant: options.Tenant = "",
) -> None:
    """Drive an agent's terminal with this keyboard, alone; Ctrl-] detaches.

    Everyone who looks sees who drives it, and it is written down. Messages wait while you type.
    """
    from mosaic_cli.attach_terminal import attach_terminal

    attach_terminal(address, take=take, context=context, tenant=tenant)
