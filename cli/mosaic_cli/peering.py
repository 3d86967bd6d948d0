"""What `mosaic peer` does: each verb one call, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mosaic_framework.names import check_name
from mosaic_proto.v1 import peers_pb2 as pb

from mosaic_cli import asking, output
from mosaic_cli.client import ELSEWHERE_WITHIN, connect
from mosaic_cli.documents import moment, now, rfc3339
from mosaic_cli.failures import UsageError
from mosaic_cli.output import Format, Thing
from mosaic_cli.peer_view import grant_words, health_of, peer_listing, show_peer
from mosaic_cli.text import local_time
from mosaic_cli.tokens import read_token

_FOR_PROGRAMS = (Format.JSON, Format.YAML)


def make_token(name: str, *, role: str, ttl: float, form: Format, context: str, tenant: str) -> None:
    """Make a token, and say what to do with it."""
    check_name(name, what="cluster")
    with connect(context, tenant=tenant) as connection:
        request = pb.CreatePeerTokenRequest(
            tenant=connection.tenant, name=name, ttl_seconds=max(int(ttl), 1), role=role
        )
        reply = connection.call(connection.peers.CreateToken, request)
    if form in _FOR_PROGRAMS:
        body = {"name": name, "role": role, "token": reply.token, "expiresAt": rfc3339(reply.expires_at)}
        output.show(Thing("PeerToken", name, body, []), form)
        return
    output.write(reply.token + "\n")
    output.say(f"an admin of the cluster that becomes {name} runs there: mosaic peer join")
    output.say(f"and pastes the token; it works once, until {local_time(moment(reply.expires_at))}")


def join(
    token_file: Path | None, *, name: str, called: str, role: str, form: Format, context: str, tenant: str
) -> None:
    """Pair with the cluster that made the token."""
    token = read_token(token_file, kind="peer")
    with connect(context, tenant=tenant) as connection:
        request = pb.JoinPeerRequest(
            tenant=connection.tenant, token=token.format(), name=name, role=role, **{"as": called}
        )
        reply = connection.call(connection.peers.Join, request, timeout=ELSEWHERE_WITHIN)
    peer = reply.peer
    if form in _FOR_PROGRAMS:
        show_peer(peer, now(), form)
        return
    output.say(f"paired with {peer.name}; there this cluster is {called or token.name}")
    output.say(f"neither sees anything of the other yet: mosaic peer grant {peer.name} see '*'")


def show_all(*, form: Format, context: str, tenant: str) -> None:
    """List peers."""
    with connect(context, tenant=tenant) as connection:
        reply = connection.call(connection.peers.List, pb.ListPeersRequest(tenant=connection.tenant))
    output.show(peer_listing(reply.peers, reply.at), form)


def show_one(name: str, *, form: Format, context: str, tenant: str) -> None:
    """Show one peer."""
    with connect(context, tenant=tenant) as connection:
        reply = connection.call(connection.peers.List, pb.ListPeersRequest(tenant=connection.tenant, name=name))
    peer = min(reply.peers, key=lambda one: health_of(one) == "revoked")
    show_peer(peer, reply.at, form)


def grant(
    name: str,
    kind: str,
    selector: str,
    *,
    fields: Sequence[str],
    most: int,
    ttl: float,
    form: Format,
    context: str,
    tenant: str,
) -> None:
    """Let a peer do something."""
    if ttl < 1:  # 0 on the wire is the default
        raise UsageError("a grant lasts for a second at least", next_step=f"mosaic peer ungrant {name} ends one")
    with connect(context, tenant=tenant) as connection:
        request = pb.GrantRequest(
            tenant=connection.tenant,
            peer=name,
            kind=kind,
            selector=selector,
            fields=fields,
            max=most,
            ttl_seconds=int(ttl),
        )
        reply = connection.call(connection.peers.Grant, request)
    _changed(reply.peer, form)
    if kind in ("send", "claim") and reply.peer.role == "viewer":
        output.say(f"of no use yet: its people are viewer here, who only look: mosaic peer role {name} operator")


def ungrant(name: str, grants: Sequence[str], *, kind: str, form: Format, context: str, tenant: str) -> None:
    """End grants of a peer."""
    with connect(context, tenant=tenant) as connection:
        request = pb.UngrantRequest(tenant=connection.tenant, peer=name, grants=grants, kind=kind)
        reply = connection.call(connection.peers.Ungrant, request)
    _changed(reply.peer, form)


def change_role(name: str, role: str, *, form: Format, context: str, tenant: str) -> None:
    """Change what the people of a peer count as."""
    with connect(context, tenant=tenant) as connection:
        request = pb.ChangePeerRoleRequest(tenant=connection.tenant, peer=name, role=role)
        reply = connection.call(connection.peers.ChangeRole, request)
    if form in _FOR_PROGRAMS:
        show_peer(reply.peer, now(), form)
        return
    output.say(f"the people of {reply.peer.name} are {reply.peer.role} here from now on")


def revoke(name: str, *, reason: str, dry_run: bool, yes: bool, form: Format, context: str, tenant: str) -> None:
    """End a pairing, after asking."""
    with connect(context, tenant=tenant) as connection:
        found = connection.call(connection.peers.List, pb.ListPeersRequest(tenant=connection.tenant, name=name))
        peer = min(found.peers, key=lambda one: health_of(one) == "revoked")
        if dry_run and form in _FOR_PROGRAMS:
            show_peer(peer, found.at, form)
            return
        if dry_run:
            output.say(f"would end the pairing with {peer.name}, which is {health_of(peer)}")
            for one in peer.grants:
                output.say(f"  and what it may here: {grant_words(one)}")
            return
        asking.agree(f"end the pairing with {peer.name}: it sees and does nothing here from then on", yes=yes)
        request = pb.RevokePeerRequest(tenant=connection.tenant, peer=name, reason=reason)
        already = health_of(peer) == "revoked"
        peer = connection.call(connection.peers.Revoke, request, timeout=ELSEWHERE_WITHIN).peer
    if form in _FOR_PROGRAMS:
        show_peer(peer, now(), form)
        return
    output.say(f"the pairing with {peer.name} {'had been ended before' if already else 'is over'}")
    if peer.problem and not already:
        output.say(f"the other side: {peer.problem}")
    output.say(f"what is left is a tombstone: mosaic peer rm {peer.name}")


def remove(name: str, *, dry_run: bool, yes: bool, context: str, tenant: str) -> None:
    """Delete a tombstone, after asking."""
    with connect(context, tenant=tenant) as connection:
        if dry_run:
            found = connection.call(connection.peers.List, pb.ListPeersRequest(tenant=connection.tenant, name=name))
            for peer in found.peers:
                gone = health_of(peer) == "revoked"
                output.say(
                    f"would remove the tombstone of {peer.name} ({peer.id})" if gone else f"{peer.name} is paired"
                )
            return
        asking.agree(f"delete the tombstone of {name}, and all that is known of it", yes=yes)
        peer = connection.call(connection.peers.Remove, pb.RemovePeerRequest(tenant=connection.tenant, peer=name)).peer
    output.say(f"{peer.name} is removed")


def _changed(peer: pb.PeerCluster, form: Format) -> None:
    """Tell what a peer may do here now."""
    if form in _FOR_PROGRAMS:
        show_peer(peer, now(), form)
        return
    output.say(f"{peer.name} may here:" if peer.grants else f"{peer.name} may do nothing here")
    for one in peer.grants:
        output.say(f"  {grant_words(one)}")
