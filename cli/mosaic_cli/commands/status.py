"""mosaic status."""

from __future__ import annotations

import typer
from mosaic_framework.errors import EXIT_UNREACHABLE

from mosaic_cli import groups, options, output
from mosaic_cli.output import Format

app = groups.verb("status")


@app.command()
def status(output_form: options.Output = Format.TABLE) -> None:
    """Show what runs on this machine, since when, and where its logs are. Exit 5 when something does not run."""
    from mosaic_framework.paths import Home

    from mosaic_cli.status_view import status_listing

    home = Home.from_environment()
    listing, well, note = status_listing(home)
    output.show(listing, output_form)
    if note:
        output.say(note)
    if not well:
        raise typer.Exit(EXIT_UNREACHABLE)
