"""mosaic fleet: pause, resume."""

from __future__ import annotations

from typing import Annotated

import typer

from mosaic_cli import options
from mosaic_cli.output import Format

app = typer.Typer()

Reason = Annotated[str, typer.Option("--reason", "-m", help="Why; everyone is told.")]


@app.command("pause")
def pause(
    reason: Reason = "",
    output_form: options.Output = Format.TABLE,
    context: options.Context = "",
    tenant: options.Tenant = "",
) -> None:
    """Let nothing of the backlog be claimed. What is held goes on, and messages are delivered."""
    from mosaic_cli.backlog.pausing import pause_or_resume

    pause_or_resume("Pause", reason=reason, form=output_form, context=context, tenant=tenant)


@app.command("resume")
def resume(
    reason: Reason = "",
    output_form: options.Output = Format.TABLE,
    context: options.Context = "",
    tenant: options.Tenant = "",
) -> None:
    """Let cards be claimed again."""
    from mosaic_cli.backlog.pausing import pause_or_resume

    pause_or_resume("Resume", reason=reason, form=output_form, context=context, tenant=tenant)
