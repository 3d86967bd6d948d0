"""mosaic update."""

from __future__ import annotations

from typing import Annotated

import typer

from mosaic_cli import completion, failures, groups, options
from mosaic_cli.output import Format
from mosaic_cli.text import duration

app = groups.verb("update")


@app.command()
def update(
    no_upgrade: Annotated[
        bool, typer.Option("--no-upgrade", help="Do not upgrade the program; only see to its data.")
    ] = False,
    no_reseed: Annotated[
        bool, typer.Option("--no-reseed", help="Do not look at shipped data, nor at copies of it.")
    ] = False,
    source: Annotated[
        str, typer.Option("--from", metavar="SOURCE", help="A wheel, folder or address to upgrade from.")
    ] = "",
    dry_run: options.DryRun = False,
    runtimes: Annotated[
        bool, typer.Option("--runtimes", help="Update the agents' programs instead, host by host.")
    ] = False,
    relaunch: Annotated[
        bool,
        typer.Option("--relaunch", help="With --runtimes: restart their agents on the new version."),
    ] = False,
    host: Annotated[
        str, typer.Option("--host", help="With --runtimes: only on this host.", autocompletion=completion.hosts)
    ] = "",
    runtime: Annotated[str, typer.Option("--runtime", help="With --runtimes: only this one.")] = "",
    timeout: Annotated[
        float,
        typer.Option(
            "--timeout",
            parser=duration,
            metavar="TIME",
            help="With --runtimes: how long to wait until a host's agents are available.",
        ),
    ] = 300.0,
    detach: Annotated[bool, typer.Option("--detach", help="With --runtimes: do not wait for the effect.")] = False,
    output_form: options.Output = Format.TABLE,
    context: options.Context = "",
    tenant: options.Tenant = "",
) -> None:
    """Upgrade this program, and tell what changed in its roles, profiles, presets and runtimes. Yours stays yours.

    With --runtimes: wait on each host until the agents of a runtime are available, update it there, and verify it.
    """
    if runtimes:
        from mosaic_cli.update_runtimes import Wish, update_runtimes

        if no_upgrade or no_reseed or source:
            raise failures.UsageError("--runtimes updates the agents' programs, and not this one")
        asked = Wish(host=host, runtime=runtime, relaunch=relaunch, timeout=timeout, detach=detach, dry_run=dry_run)
        if code := update_runtimes(asked, output_form, context=context, tenant=tenant):
            raise typer.Exit(code)
        return
    if relaunch or host or runtime or detach:
        raise failures.UsageError(
            "--relaunch, --host, --runtime and --detach go with --runtimes", next_step="mosaic update --runtimes"
        )
    from mosaic_cli.update import UpdateWish
    from mosaic_cli.update import update as run_update

    wish = UpdateWish(upgrade=not no_upgrade, reseed=not no_reseed, dry_run=dry_run, source=source)
    code = run_update(wish, output_form)
    if code:
        raise typer.Exit(code)
