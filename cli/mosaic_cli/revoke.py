"""Revoking an identity: asked about first, and told with what it did."""

from __future__ import annotations

from mosaic_framework.names import check_name
from mosaic_proto.v1 import identity_pb2 as pb

from mosaic_cli import asking, output
from mosaic_cli.client import connect
from mosaic_cli.identity_view import find_identity, identity_document, kind_of
from mosaic_cli.output import Format, Thing


def revoke_identity(
    kind: str, name: str, *, reason: str, dry_run: bool, yes: bool, form: Format, context: str, tenant: str
) -> None:
    """Revoke a host or an operator. `kind` may be empty where the name fits one identity only."""
    check_name(name, what=kind or "identity")
    with connect(context, tenant=tenant) as connection:
        identity, _at = find_identity(connection, kind, name)
        kind = kind_of(identity)
        if dry_run:
            output.say(f"would revoke {kind}/{name}, which is {identity.state}")
            return
        asking.agree(f"revoke {kind}/{name}: it is shut out at once, and comes back only by a new token", yes=yes)
        request = pb.RevokeRequest(tenant=connection.tenant, kind=identity.kind, name=name, reason=reason)
        reply = connection.call(connection.identities.Revoke, request)
    if form in (Format.JSON, Format.YAML):
        body = identity_document(reply.identity) | {
            "already": reply.already,
            "cards": list(reply.cards),
            "messages": reply.messages,
            "tokens": reply.tokens,
        }
        output.show(Thing("Identity", name, body, []), form)
        return
    output.say(f"{kind}/{name} {'had been revoked before' if reply.already else 'is revoked'}")
    if reply.cards:
        output.say(f"its claims are over: {', '.join(reply.cards)}")
    if reply.messages:
        output.say(f"{reply.messages} messages on it are unknown now: mosaic message ls")
    if reply.tokens:
        output.say(f"{reply.tokens} unused join tokens for it are void")
    if kind == "host" and not reply.already:
        output.say("its agents run on over there until they are ended on that machine; their seats wait")
