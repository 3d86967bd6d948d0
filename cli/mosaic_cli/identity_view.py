"""Identities as people and programs read them."""

from __future__ import annotations

from typing import Any

from mosaic_framework.errors import Ambiguous
from mosaic_proto.v1 import common_pb2
from mosaic_proto.v1 import identity_pb2 as pb

from mosaic_cli import output
from mosaic_cli.client import Connection, connect
from mosaic_cli.documents import moment, rfc3339, seconds_between, word
from mosaic_cli.failures import UsageError
from mosaic_cli.output import Column, Format, Listing, Style, Thing
from mosaic_cli.text import age, local_time

KINDS = {
    "": common_pb2.PRINCIPAL_KIND_UNSPECIFIED,
    "host": common_pb2.PRINCIPAL_KIND_HOST,
    "operator": common_pb2.PRINCIPAL_KIND_OPERATOR,
}


def kind_number(kind: str) -> common_pb2.PrincipalKind.ValueType:
    """Return the wire's number of a kind. Raises UsageError."""
    if kind not in KINDS:
        raise UsageError(f"there is no identity of kind {kind!r}", why="it is host or operator")
    return KINDS[kind]


def find_identity(connection: Connection, kind: str, name: str) -> tuple[pb.Identity, Any]:
    """Return the one identity of that name, and the database's time. Raises NotFound, Ambiguous."""
    request = pb.ListIdentitiesRequest(tenant=connection.tenant, kind=kind_number(kind), name=name)
    reply = connection.call(connection.identities.List, request)
    if len(reply.identities) > 1:
        fit = ", ".join(f"{kind_of(one)}/{one.name}" for one in reply.identities)
        raise Ambiguous(f"{name!r} is the name of more than one identity", why=f"it fits {fit}", next_step="say which")
    return reply.identities[0], reply.at


def kind_of(identity: pb.Identity) -> str:
    """Return host or operator."""
    return word(common_pb2.PrincipalKind, identity.kind)


def show_identities(kind: str, *, form: Format, context: str, tenant: str) -> None:
    """List identities, those who may no longer call first."""
    with connect(context, tenant=tenant) as connection:
        request = pb.ListIdentitiesRequest(tenant=connection.tenant, kind=kind_number(kind))
        reply = connection.call(connection.identities.List, request)
    rows = sorted(reply.identities, key=lambda one: one.state == "good")
    columns: list[Column[pb.Identity]] = [
        Column("IDENTITY", lambda one: f"{kind_of(one)}/{one.name}"),
        Column("ROLE", lambda one: one.role),
        Column("STATE", lambda one: one.state),
        Column("VALID FOR", lambda one: _left(one, reply.at)),
        Column("REVOKED", lambda one: _revoked(one)),
        Column("EPOCH", lambda one: str(one.identity_epoch), wide=True),
        Column("MADE", lambda one: local_time(moment(one.made_at)), wide=True),
        Column("ID", lambda one: one.id, wide=True),
    ]
    listing = Listing(
        "IdentityList",
        rows,
        columns,
        lambda one: f"{kind_of(one)}/{one.name}",
        identity_document,
        style=lambda one: Style.PLAIN if one.state == "good" else Style.GREY,
        empty="nobody has joined yet; make a token with: mosaic host token NAME",
    )
    output.show(listing, form)


def show_identity(text: str, *, form: Format, context: str, tenant: str) -> None:
    """Show one identity."""
    kind, _, name = text.rpartition("/")
    with connect(context, tenant=tenant) as connection:
        identity, at = find_identity(connection, kind, name)
    lines = [
        ("identity", f"{kind_of(identity)}/{identity.name}"),
        ("tenant", identity.tenant),
        ("role", identity.role),
        ("state", identity.state),
        ("valid for", _left(identity, at)),
        ("revoked", _revoked(identity)),
        ("made", local_time(moment(identity.made_at))),
        ("id", f"{identity.id}, epoch {identity.identity_epoch}"),
        *(("certificate", _leaf(leaf)) for leaf in identity.leaves),
    ]
    output.show(Thing("Identity", identity.name, identity_document(identity), lines), form)


def identity_document(identity: pb.Identity) -> dict[str, Any]:
    """Return the JSON form of an identity."""
    return {
        "type": kind_of(identity),
        "id": identity.id,
        "tenant": identity.tenant,
        "name": identity.name,
        "role": identity.role,
        "identityEpoch": identity.identity_epoch,
        "state": identity.state,
        "madeAt": rfc3339(identity.made_at),
        "validUntil": rfc3339(identity.valid_until),
        "revokedAt": rfc3339(identity.revoked_at),
        "revokedBy": identity.revoked_by,
        "revokedReason": identity.revoked_reason,
        "certificates": [
            {
                "serial": leaf.serial,
                "issuedAt": rfc3339(leaf.issued_at),
                "notAfter": rfc3339(leaf.not_after),
                "authorityId": leaf.authority_id,
                "replaced": leaf.replaced,
            }
            for leaf in identity.leaves
        ],
    }


def _left(identity: pb.Identity, at: Any) -> str:
    left = seconds_between(identity.valid_until, at)
    return "" if left is None or left <= 0 or identity.state != "good" else age(left)


def _revoked(identity: pb.Identity) -> str:
    at = moment(identity.revoked_at)
    if at is None:
        return ""
    by = f" by {identity.revoked_by}" if identity.revoked_by else ""
    return f"{local_time(at)}{by}{f': {identity.revoked_reason}' if identity.revoked_reason else ''}"


def _leaf(leaf: pb.Leaf) -> str:
    replaced = ", replaced" if leaf.replaced else ""
    return f"{local_time(moment(leaf.issued_at))} to {local_time(moment(leaf.not_after))}{replaced}, {leaf.serial[:16]}"
