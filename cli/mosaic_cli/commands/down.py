"""mosaic down."""

from __future__ import annotations

from mosaic_cli import groups, options

app = groups.verb("down")


@app.command()
def down(yes: options.Yes = False, dry_run: options.DryRun = False, timeout: options.Timeout = 30.0) -> None:
    """Stop the agents of this machine, then everything that `mosaic up` started. Nothing is left running."""
    from mosaic_framework.paths import Home

    from mosaic_cli.take_down import TakeDown

    TakeDown(Home.from_environment(), timeout=timeout).run(yes=yes, dry_run=dry_run)
