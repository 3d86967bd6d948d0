"""mosaic identity: ls, show, revoke."""

from __future__ import annotations

from typing import Annotated

import typer

from mosaic_cli import groups, options
from mosaic_cli.output import Format

app = groups.noun("identity", "Who may call: hosts and operators, and until when.")
Identity = Annotated[str, typer.Argument(metavar="[KIND/]NAME", help="host/web1 or operator/anna; or the name alone.")]
Kind = Annotated[str, typer.Option("--kind", help="Only host or operator.")]


@app.command("ls")
def list_identities(
    kind: Kind = "",
    output_form: options.Output = Format.TABLE,
    context: options.Context = "",
    tenant: options.Tenant = "",
) -> None:
    """List who may call, those who no longer may first."""
    from mosaic_cli.identity_view import show_identities

    show_identities(kind, form=output_form, context=context, tenant=tenant)


@app.command("show")
def show(
    identity: Identity,
    output_form: options.Output = Format.TABLE,
    context: options.Context = "",
    tenant: options.Tenant = "",
) -> None:
    """Show one identity, with the certificates it holds."""
    from mosaic_cli.identity_view import show_identity

    show_identity(identity, form=output_form, context=context, tenant=tenant)


@app.command("revoke")
def revoke(
    identity: Identity,
    reason: options.Reason = "",
    dry_run: options.DryRun = False,
    yes: options.Yes = False,
    output_form: options.Output = Format.TABLE,
    context: options.Context = "",
    tenant: options.Tenant = "",
) -> None:
    """Shut a host or an operator out for good: calls are refused and streams end, on every replica."""
    from mosaic_cli.revoke import revoke_identity

    kind, _, name = identity.rpartition("/")
    revoke_identity(
        kind, name, reason=reason, dry_run=dry_run, yes=yes, form=output_form, context=context, tenant=tenant
    )
