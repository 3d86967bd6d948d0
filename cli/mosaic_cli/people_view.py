"""Operators, tenants and their one-time codes, ready to be shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mosaic_proto.v1 import people_pb2 as pb

from mosaic_cli import output
from mosaic_cli.documents import moment, rfc3339
from mosaic_cli.output import Column, Format, Listing, Style, Thing
from mosaic_cli.text import local_time


def show_code(
    kind: str, name: str, token: str, expires_at: Any, *, body: dict[str, Any], form: Format, tenant: str = ""
) -> None:
    """Show a code once: alone on stdout for people and pipes, in the document for programs."""
    if form not in (Format.TABLE, Format.WIDE, Format.NAME):
        output.show(Thing(kind, name, body | {"token": token, "expiresAt": rfc3339(expires_at)}, []), form)
        return
    output.write(token + "\n")
    output.say(f"{name} runs on a machine of their own: mosaic login")
    where = f" in tenant {tenant}" if tenant else ""
    output.say(f"and pastes the code there; it works once{where}, until {local_time(moment(expires_at))}")


def operator_document(operator: pb.Operator) -> dict[str, Any]:
    """Return an operator's JSON form."""
    return {
        "id": operator.id,
        "name": operator.name,
        "role": operator.role,
        "tenant": operator.tenant,
        "madeAt": rfc3339(operator.made_at),
        "revoked": operator.revoked,
    }


def operator_listing(operators: Sequence[pb.Operator]) -> Listing[pb.Operator]:
    """Return operators ready to be shown."""
    columns: list[Column[pb.Operator]] = [
        Column("NAME", lambda operator: operator.name),
        Column("ROLE", lambda operator: operator.role),
        Column("TENANT", lambda operator: operator.tenant),
        Column("STATE", lambda operator: "revoked" if operator.revoked else "known"),
        Column("SINCE", lambda operator: local_time(moment(operator.made_at))),
        Column("ID", lambda operator: operator.id, wide=True),
    ]
    return Listing(
        "OperatorList",
        operators,
        columns,
        name=lambda operator: operator.name,
        document=operator_document,
        style=lambda operator: Style.GREY if operator.revoked else Style.PLAIN,
    )


def tenant_document(tenant: pb.Tenant) -> dict[str, Any]:
    """Return a tenant's JSON form."""
    return {
        "id": tenant.id,
        "name": tenant.name,
        "first": tenant.first,
        "operators": tenant.operators,
        "hosts": tenant.hosts,
        "madeAt": rfc3339(tenant.made_at),
    }


def tenant_listing(tenants: Sequence[pb.Tenant]) -> Listing[pb.Tenant]:
    """Return tenants ready to be shown."""
    columns: list[Column[pb.Tenant]] = [
        Column("NAME", lambda tenant: tenant.name),
        Column("OPERATORS", lambda tenant: str(tenant.operators)),
        Column("HOSTS", lambda tenant: str(tenant.hosts)),
        Column("SINCE", lambda tenant: local_time(moment(tenant.made_at))),
        Column("ID", lambda tenant: tenant.id, wide=True),
    ]
    return Listing("TenantList", tenants, columns, name=lambda tenant: tenant.name, document=tenant_document)


def removal(removed: Mapping[str, int]) -> str:
    """Return what goes with a tenant, as people say it."""
    parts = [f"{count} {word.removesuffix('s') if count == 1 else word}" for word, count in sorted(removed.items())]
    return ", ".join(parts)
