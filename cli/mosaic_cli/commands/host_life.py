"""mosaic host: drain, undrain, rm, policy."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from mosaic_cli import completion, options
from mosaic_cli.output import Format
from mosaic_cli.text import duration

app = typer.Typer()

Name = Annotated[str, typer.Argument(help="A host of `mosaic host ls`.", autocompletion=completion.hosts)]


class LostClaims(StrEnum):
    """What becomes of what agents of a lost host have claimed."""

    LEASE = "lease"
    HOLD = "hold"
    RELEASE = "release"


@app.command("drain")
def drain(
    name: Name,
    timeout: options.Timeout = 600.0,
    detach: options.Detach = False,
    output_form: options.Output = Format.TABLE,
    context: options.Context = "",
    tenant: options.Tenant = "",
) -> None:
    """Let the agents of a host claim nothing new, and wait until they have finished what they hold. They run on."""
    from mosaic_cli import draining

    draining.drain(name, timeout=timeout, detach=detach, form=output_form, context=context, tenant=tenant)


@app.command("undrain")
def undrain(
    name: Name,
    output_form: options.Output = Format.TABLE,
    context: options.Context = "",
    tenant: options.Tenant = "",
) -> None:
    """Let the agents of a host claim again."""
    from mosaic_cli import draining

    draining.undrain(name, form=output_form, context=context, tenant=tenant)


@app.command("rm")
def remove(
    name: Name,
    dry_run: options.DryRun = False,
    yes: options.Yes = False,
    output_form: options.Output = Format.TABLE,
    context: options.Context = "",
    tenant: options.Tenant = "",
) -> None:
    """Take a host that no roster names out of the fleet: its identity is over, and its name free."""
    from mosaic_cli import draining

    draining.remove(name, dry_run=dry_run, yes=yes, form=output_form, context=context, tenant=tenant)


@app.command("policy")
def policy(
    lost_after: Annotated[
        float | None,
        typer.Option(
            "--lost-after", parser=duration, metavar="TIME", help="A host is lost after so long without a beat."
        ),
    ] = None,
    lost_claims: Annotated[
        LostClaims | None,
        typer.Option("--lost-claims", help="Claims of a lost host: lease (run out), hold (kept), release (go back)."),
    ] = None,
    output_form: options.Output = Format.TABLE,
    context: options.Context = "",
    tenant: options.Tenant = "",
) -> None:
    """Show what is done about lost hosts of the tenant; change it with options."""
    from mosaic_cli import draining

    draining.policy(
        lost_after, lost_claims.value if lost_claims else "", form=output_form, context=context, tenant=tenant
    )
