"""Briefings: what all seats of a tenant are told, with the peers that a roster makes (pure)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import UUID

from mosaic_framework.contracts import digest_of
from mosaic_framework.seeding import peer_of
from mosaic_proto.v1.fleet_pb2 import SeatSpec
from mosaic_proto.v1.seeding_pb2 import Briefing, BriefingText

from mosaic_controlplane.register.agent import SeatSpecRow


def with_peers(texts: Briefing, rows: Sequence[SeatSpecRow], host_names: Mapping[UUID, str]) -> Briefing:
    """Return the texts, their digests our own, with a peer for every seat, by host and name."""
    peers = [peer_of(SeatSpec.FromString(row.spec), host=host_names.get(row.host_id, "")) for row in rows]
    return Briefing(
        texts=[BriefingText(name=one.name, text=one.text, digest=digest_of(one.text)) for one in texts.texts],
        peers=sorted(peers, key=lambda peer: (peer.host, peer.name)),
    )
