"""mosaic operator: token, ls, role."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer
from mosaic_framework.names import check_name

from mosaic_cli import groups, options, output
from mosaic_cli.output import Format, Thing
from mosaic_cli.text import duration

app = groups.noun("operator", "People of this tenant: one-time codes for further ones, and their roles.")


class Role(StrEnum):
    """What an operator may do."""

    ADMIN = "admin"
    OPERATOR = "operator"
    VIEWER = "viewer"


Name = Annotated[str, typer.Argument(help="The operator's name.")]


@app.command("token")
def token(
    name: Name,
    role: Annotated[
        Role, typer.Option("--role", help="admin: everything; operator: runs the fleet; viewer: only looks.")
    ] = Role.OPERATOR,
    ttl: Annotated[
        float, typer.Option("--ttl", parser=duration, metavar="TIME", help="How long it can be used.")
    ] = 600.0,
    output_form: options.Output = Format.TABLE,
    context: options.Context = "",
    tenant: options.Tenant = "",
) -> None:
    """Make a one-time code with which a person logs in as NAME: the code on stdout, what to do with it on stderr."""
    check_name(name, what="operator")
    from mosaic_proto.v1 import people_pb2 as pb

    from mosaic_cli.client import connect
    from mosaic_cli.people_view import show_code

    with connect(context, tenant=tenant) as connection:
        request = pb.CreateOperatorTokenRequest(
            tenant=connection.tenant, name=name, role=role.value, ttl_seconds=max(int(ttl), 1)
        )
        reply = connection.call(connection.operators.CreateToken, request)
    body = {"name": name, "role": role.value}
    show_code("OperatorToken", name, reply.token, reply.expires_at, body=body, form=output_form)


@app.command("ls")
def list_operators(
    output_form: options.Output = Format.TABLE, context: options.Context = "", tenant: options.Tenant = ""
) -> None:
    """List the people of this tenant and their roles."""
    from mosaic_proto.v1 import people_pb2 as pb

    from mosaic_cli.client import connect
    from mosaic_cli.people_view import operator_listing

    with connect(context, tenant=tenant) as connection:
        reply = connection.call(connection.operators.List, pb.ListOperatorsRequest(tenant=connection.tenant))
    output.show(operator_listing(reply.operators), output_form)


@app.command("role")
def change_role(
    name: Name,
    role: Annotated[Role, typer.Argument(help="The role from now on; it counts within a second.")],
    output_form: options.Output = Format.TABLE,
    context: options.Context = "",
    tenant: options.Tenant = "",
) -> None:
    """Give an operator another role. The last admin of a tenant stays one."""
    from mosaic_proto.v1 import people_pb2 as pb

    from mosaic_cli.client import connect
    from mosaic_cli.people_view import operator_document

    with connect(context, tenant=tenant) as connection:
        request = pb.ChangeRoleRequest(tenant=connection.tenant, name=name, role=role.value)
        reply = connection.call(connection.operators.ChangeRole, request)
    lines = [("operator", reply.operator.name), ("role", reply.operator.role), ("before", reply.role_before)]
    body = operator_document(reply.operator) | {"roleBefore": reply.role_before}
    output.show(Thing("Operator", name, body, lines), output_form)
