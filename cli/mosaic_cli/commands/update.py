"""mosaic update."""

from __future__ import annotations

from typing import Annotated

import typer

from mosaic_cli import groups, options
from mosaic_cli.output import Format

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
    output_form: options.Output = Format.TABLE,
) -> None:
    """Upgrade this program, and tell what changed in its roles, profiles, presets and runtimes. Yours stays yours."""
    from mosaic_cli.update import UpdateWish
    from mosaic_cli.update import update as run_update

    wish = UpdateWish(upgrade=not no_upgrade, reseed=not no_reseed, dry_run=dry_run, source=source)
    code = run_update(wish, output_form)
    if code:
        raise typer.Exit(code)
