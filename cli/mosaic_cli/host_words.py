"""A host's liveness in words (pure)."""

from __future__ import annotations

from typing import Any

from mosaic_proto.v1 import fleet_pb2 as pb

from mosaic_cli.documents import seconds_between
from mosaic_cli.text import age

CLAIMS = {
    "lease": "what its agents have claimed runs out with its leases",
    "hold": "what its agents have claimed is kept for them",
    "release": "what its agents have claimed goes back at once",
}


def last_beat(host: pb.Host, at: Any) -> str:
    """Return when a host was last heard of, and how often it beats."""
    ago = age(seconds_between(at, host.last_beat_at))
    if not ago:
        return "never"
    return f"{ago} ago" + (f", every {host.beat_interval_ms / 1000:g} s" if host.beat_interval_ms else "")


def lost_words(host: pb.Host) -> str:
    """Return when a host is lost, and what happens then."""
    return f"after {lost_after(host.lost_after_ms)} without a beat: {CLAIMS.get(host.lost_claims, host.lost_claims)}"


def lost_after(milliseconds: int) -> str:
    """Return a time without a beat as people write it."""
    return age(milliseconds / 1000)
