"""Other clusters as people and programs read them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mosaic_proto.v1 import peers_pb2 as pb

from mosaic_cli import output
from mosaic_cli.documents import moment, rfc3339, seconds_between
from mosaic_cli.output import Column, Format, Listing, Style, Thing
from mosaic_cli.text import age, local_time

_STYLES = {"live": Style.PLAIN, "paired": Style.ATTENTION, "stale": Style.ATTENTION, "lost": Style.WRONG}


def health_of(peer: pb.PeerCluster) -> str:
    """Return paired, live, stale, lost or revoked."""
    try:
        return str(pb.PeerHealth.Name(peer.health)).removeprefix("PEER_HEALTH_").lower()
    except ValueError:  # of a newer control plane
        return "unknown"


def health_words(peer: pb.PeerCluster, at: Any) -> str:
    """Return the health, and since when nothing was heard where that matters: STALE 3m, LOST 2h05m."""
    health = health_of(peer)
    silent = age(seconds_between(at, peer.heard_at))
    return f"{health.upper()} {silent}".strip() if health in ("stale", "lost") else health.upper()


def peer_document(peer: pb.PeerCluster, at: Any) -> dict[str, Any]:
    """Return a peer's JSON form; `at` is the database's time of the reading."""
    return {
        "id": peer.id,
        "tenant": peer.tenant,
        "name": peer.name,
        "trustDomain": peer.trust_domain,
        "cluster": peer.cluster,
        "role": peer.role,
        "health": health_of(peer),
        "heardAt": rfc3339(peer.heard_at),
        "heardAgoSeconds": seconds_between(at, peer.heard_at),
        "problem": peer.problem,
        "pairedAt": rfc3339(peer.paired_at),
        "revokedAt": rfc3339(peer.revoked_at),
        "revokedBy": peer.revoked_by,
        "revokedReason": peer.revoked_reason,
        "addresses": list(peer.addresses),
        "grants": [grant_document(one) for one in peer.grants],
        "granted": [grant_document(one) for one in peer.granted],
        "agents": peer.agents,
        "skipped": dict(sorted(peer.skipped.items())),
        "version": peer.version,
    }


def grant_document(grant: pb.PeerGrant) -> dict[str, Any]:
    """Return a grant's JSON form."""
    return {
        "id": grant.id,
        "kind": grant.kind,
        "selector": grant.selector,
        "fields": list(grant.fields),
        "max": grant.max or None,
        "expiresAt": rfc3339(grant.expires_at),
        "madeBy": grant.made_by,
        "madeAt": rfc3339(grant.made_at),
    }


def peer_listing(peers: Sequence[pb.PeerCluster], at: Any) -> Listing[pb.PeerCluster]:
    """Return peers ready to be shown, those that need a person first."""
    order = ("lost", "stale", "paired", "live", "unknown", "revoked")
    rows = sorted(peers, key=lambda peer: (order.index(health_of(peer)), peer.name))
    columns: list[Column[pb.PeerCluster]] = [
        Column("NAME", lambda peer: peer.name),
        Column("STATE", lambda peer: health_words(peer, at)),
        Column("ROLE HERE", lambda peer: peer.role),
        Column("MAY HERE", lambda peer: _kinds(peer.grants)),
        Column("WE MAY THERE", lambda peer: _kinds(peer.granted)),
        Column("AGENTS", lambda peer: str(peer.agents) if peer.agents else ""),
        Column("PROBLEM", problem_of),
        Column("CALLS ITSELF", lambda peer: peer.cluster, wide=True),
        Column("TRUST DOMAIN", lambda peer: peer.trust_domain, wide=True),
        Column("VERSION", lambda peer: peer.version, wide=True),
        Column("ADDRESSES", lambda peer: " ".join(peer.addresses), wide=True),
        Column("PAIRED", lambda peer: local_time(moment(peer.paired_at)), wide=True),
        Column("ID", lambda peer: peer.id, wide=True),
    ]
    return Listing(
        "PeerList",
        rows,
        columns,
        name=lambda peer: peer.name,
        document=lambda peer: peer_document(peer, at),
        style=lambda peer: _STYLES.get(health_of(peer), Style.GREY),
        empty="no other cluster is paired with this one; begin with: mosaic peer token NAME",
    )


def problem_of(peer: pb.PeerCluster) -> str:
    """Return why nothing is heard of a peer: a tombstone's who and why, else what is known to be wrong."""
    if health_of(peer) != "revoked":
        return peer.problem
    words = f"ended by {'us' if peer.revoked_by == 'us' else 'them'} at {local_time(moment(peer.revoked_at))}"
    words += f": {peer.revoked_reason}" if peer.revoked_reason else ""
    return f"{words} ({peer.problem})" if peer.problem else words


def show_peer(peer: pb.PeerCluster, at: Any, form: Format) -> None:
    """Show one peer, with what each side may do at the other."""
    lines = [
        ("peer", peer.name),
        ("state", health_words(peer, at)),
        ("problem", problem_of(peer)),
        ("last heard of", _heard(peer, at)),
        ("calls itself", peer.cluster),
        ("trust domain", peer.trust_domain),
        ("its people are", f"{peer.role} here" if peer.role else ""),
        ("agents it shows", str(peer.agents) if peer.agents else ""),
        ("not understood", ", ".join(f"{count} rows of kind {kind}" for kind, count in sorted(peer.skipped.items()))),
        ("version", peer.version),
        ("addresses", " ".join(peer.addresses)),
        ("paired", local_time(moment(peer.paired_at))),
        ("pairing", peer.id),
    ]
    text = "\n".join(
        line
        for title, grants in (("it may here:", peer.grants), ("we may there:", peer.granted))
        for line in (title, *(f"  {grant_words(one)}" for one in grants), *([] if grants else ["  nothing"]))
    )
    shown = Thing("Peer", peer.name, peer_document(peer, at), lines, text=text if health_of(peer) != "revoked" else "")
    output.show(shown, form)


def grant_words(grant: pb.PeerGrant) -> str:
    """Return a grant on one line; its id ends it, cut to what tells it from others."""
    words = f"{grant.kind} {grant.selector}"
    words += f" --with {','.join(grant.fields)}" if grant.fields else ""
    words += f" --max {grant.max}" if grant.max else ""
    return f"{words}, until {local_time(moment(grant.expires_at))}  ({grant.id[-12:]})"


def _heard(peer: pb.PeerCluster, at: Any) -> str:
    silent = age(seconds_between(at, peer.heard_at))
    return f"{silent} ago" if silent else ""


def _kinds(grants: Sequence[pb.PeerGrant]) -> str:
    return ",".join(kind for kind in ("see", "send", "watch", "claim") if any(one.kind == kind for one in grants))
