"""mosaic fleet: install, uninstall, verify, on this machine."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from mosaic_cli import options, output
from mosaic_cli.output import Format

app = typer.Typer()


class Supervision(StrEnum):
    """Who may keep the seats of a machine."""

    SYSTEMD = "systemd"
    BUILT_IN = "built-in"


@app.command("install")
def install(
    supervision: Annotated[
        Supervision | None, typer.Option("--supervision", help="Default: systemd, where it works for this user.")
    ] = None,
    dry_run: options.DryRun = False,
    output_form: options.Output = Format.TABLE,
) -> None:
    """Let systemd keep this machine's seats over logout, crash and reboot. Run again, it refreshes what has drifted."""
    from mosaic_framework.paths import Home

    from mosaic_cli import install_fleet

    wish = supervision.value if supervision is not None else ""
    output.show(install_fleet.install(Home.from_environment(), supervision=wish, dry_run=dry_run), output_form)


@app.command("uninstall")
def uninstall(dry_run: options.DryRun = False, output_form: options.Output = Format.TABLE) -> None:
    """Take this machine's seats back from systemd; they run on, kept by the host-agent itself."""
    from mosaic_framework.paths import Home

    from mosaic_cli import install_fleet

    output.show(install_fleet.uninstall(Home.from_environment(), dry_run=dry_run), output_form)


@app.command("verify")
def verify(output_form: options.Output = Format.TABLE) -> None:
    """Say whether this machine's seats live, by tmux and their processes, whatever a unit says of itself."""
    from mosaic_framework.paths import Home

    from mosaic_cli.verify_fleet import verify_listing

    listing, problem = verify_listing(Home.from_environment())
    output.show(listing, output_form)
    if problem is not None:
        raise problem
