"""mosaic tenant: create, ls, rm."""

from __future__ import annotations

from typing import Annotated

import typer
from mosaic_framework.names import check_name

from mosaic_cli import groups, options, output
from mosaic_cli.output import Format, Thing
from mosaic_cli.text import duration

app = groups.noun("tenant", "Units of isolation in this cluster; made and removed by admins of its first tenant.")
Name = Annotated[str, typer.Argument(help="The tenant's name.")]


@app.command("create")
def create(
    name: Name,
    admin: Annotated[str, typer.Option("--admin", help="The name of its first admin.")] = "admin",
    ttl: Annotated[
        float, typer.Option("--ttl", parser=duration, metavar="TIME", help="How long the admin's code can be used.")
    ] = 600.0,
    output_form: options.Output = Format.TABLE,
    context: options.Context = "",
) -> None:
    """Make a tenant, and the one-time code with which its first admin logs in: the code on stdout.

    Run again while nobody of it has logged in, it makes another code.
    """
    check_name(name, what="tenant")
    check_name(admin, what="operator")
    from mosaic_proto.v1 import people_pb2 as pb

    from mosaic_cli.client import connect
    from mosaic_cli.people_view import show_code, tenant_document

    with connect(context) as connection:
        request = pb.CreateTenantRequest(name=name, admin=admin, ttl_seconds=max(int(ttl), 1))
        reply = connection.call(connection.tenants.Create, request)
    body = tenant_document(reply.tenant) | {"admin": admin}
    show_code("Tenant", admin, reply.token, reply.expires_at, body=body, form=output_form, tenant=name)


@app.command("ls")
def list_tenants(output_form: options.Output = Format.TABLE, context: options.Context = "") -> None:
    """List tenants: all for who may make them, else your own."""
    from mosaic_proto.v1 import people_pb2 as pb

    from mosaic_cli.client import connect
    from mosaic_cli.people_view import tenant_listing

    with connect(context) as connection:
        reply = connection.call(connection.tenants.List, pb.ListTenantsRequest())
    output.show(tenant_listing(reply.tenants), output_form)


@app.command("rm")
def remove(
    name: Name,
    dry_run: options.DryRun = False,
    yes: options.Yes = False,
    output_form: options.Output = Format.TABLE,
    context: options.Context = "",
) -> None:
    """Remove a tenant with its operators, hosts, agents, messages and cards. What was done in it stays in the audit."""
    from mosaic_proto.v1 import people_pb2 as pb

    from mosaic_cli.asking import agree
    from mosaic_cli.client import connect
    from mosaic_cli.people_view import removal

    with connect(context) as connection:

        def remove_it(*, really: bool) -> dict[str, int]:
            request = pb.RemoveTenantRequest(name=name, dry_run=not really)
            return dict(connection.call(connection.tenants.Remove, request, timeout=600.0).removed)

        removed = remove_it(really=False)
        if not dry_run:
            agree(f"remove tenant {name} for good, with {removal(removed)}", yes=yes)
            removed = remove_it(really=True)
    told = "would be removed" if dry_run else "removed"
    lines = [("tenant", name), (told, removal(removed))]
    output.show(Thing("TenantRemoval", name, {"name": name, "dryRun": dry_run, "removed": removed}, lines), output_form)
