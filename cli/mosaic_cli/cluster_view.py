"""Other clusters in a listing of agents: whose a row is, and which clusters are not heard of (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from mosaic_proto.v1 import peers_pb2

from mosaic_cli.fleet_view import CLUSTER, AgentRow
from mosaic_cli.output import Column
from mosaic_cli.peer_view import health_of, health_words, problem_of

SILENT = (peers_pb2.PEER_HEALTH_STALE, peers_pb2.PEER_HEALTH_LOST)


def columns_for(columns: Sequence[Column[AgentRow]], rows: Iterable[AgentRow]) -> list[Column[AgentRow]]:
    """Return the columns of a listing: with whose each row is, first, as soon as one is another cluster's."""
    if not any(row.agent.cluster for row in rows):
        return list(columns)
    return [replace(CLUSTER, wide=False), *(column for column in columns if column.title != CLUSTER.title)]


def clusters_told(peers: Iterable[peers_pb2.PeerCluster], at: Any, *, chosen: bool) -> tuple[list[str], bool]:
    """Return what is said of the clusters that are not heard of, and whether what is shown of any is old.

    `chosen`: they were asked for by name, so that nothing to show is worth a word too.
    """
    said, old = [], False
    for peer in sorted(peers, key=lambda peer: peer.name):
        if peer.health in SILENT:
            said.append(f"stale: cluster {peer.name} ({health_words(peer, at)}){_why(peer)}")
            old = True
        elif peer.health == peers_pb2.PEER_HEALTH_REVOKED:
            said.append(f"revoked: cluster {peer.name}{_why(peer)}")
            old = old or chosen
        elif peer.health == peers_pb2.PEER_HEALTH_PAIRED:
            said.append(f"cluster {peer.name} is paired and has not been heard of yet{_why(peer)}")
        elif peer.problem:
            said.append(f"cluster {peer.name} ({health_of(peer)}){_why(peer)}")
        elif chosen and not peer.agents:
            said.append(f"cluster {peer.name} shows no agents: it grants none, or has none that match")
    return said, old


def _why(peer: peers_pb2.PeerCluster) -> str:
    why = problem_of(peer)
    return f": {why}" if why else ""
