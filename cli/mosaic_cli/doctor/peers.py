"""Other clusters as the control plane last heard of them (pure): a feed that is dead shows nothing wrong by itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from mosaic_proto.v1 import peers_pb2 as pb

from mosaic_cli.doctor.finding import NOTE, WELL, WRONG, Finding
from mosaic_cli.peer_view import health_of, health_words, problem_of

_LEVELS = {"live": WELL, "paired": NOTE, "stale": WRONG, "lost": WRONG}


def judge(peers: Iterable[pb.PeerCluster], at: Any) -> Iterator[Finding]:
    """Judge each peer that stands, by its last bookmark; `at` is the database's time of the reading."""
    for peer in sorted(peers, key=lambda peer: peer.name):
        health = health_of(peer)
        if health == "revoked":
            continue
        problem = problem_of(peer)
        level = NOTE if health == "live" and problem else _LEVELS.get(health, NOTE)
        text = f"cluster {peer.name} is {health_words(peer, at)}{f': {problem}' if problem else ''}"
        yield Finding(
            "peers", level, text, "" if level == WELL else f"mosaic peer show {peer.name}; there: mosaic status"
        )
