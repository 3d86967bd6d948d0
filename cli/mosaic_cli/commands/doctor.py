"""mosaic doctor."""

from __future__ import annotations

import typer
from mosaic_framework.errors import EXIT_FAILED

from mosaic_cli import groups, options, output
from mosaic_cli.output import Format

app = groups.verb("doctor")


@app.command()
def doctor(output_form: options.Output = Format.TABLE, context: options.Context = "") -> None:
    """Check this machine and the way to the cluster; say for each fault how to repair it. Exit 1 when one is found."""
    from mosaic_framework.paths import Home

    from mosaic_cli.doctor.examine import examine
    from mosaic_cli.doctor.finding import finding_listing

    findings = examine(Home.from_environment(), context)
    output.show(finding_listing(findings), output_form)
    if any(finding.level == "wrong" for finding in findings):
        raise typer.Exit(EXIT_FAILED)
