"""Other clusters in listings and watches of the fleet."""

from __future__ import annotations

from mosaic_proto.v1 import fleet_pb2 as pb
from mosaic_proto.v1 import peers_pb2

from mosaic_controlplane.api import encode
from mosaic_controlplane.federation import health
from mosaic_controlplane.mesh.clusters import Choice
from mosaic_controlplane.mesh.watch import PeerSeen
from mosaic_controlplane.register import peer_row
from mosaic_controlplane.register.database import Connection
from mosaic_controlplane.register.peer_row import SharedRow

LISTING_BYTES = 2 * 1024 * 1024
"""What peers may fill of a listing, which is one message of 4 MiB: none may keep us from seeing our own fleet."""


async def add_to(reply: pb.ListAgentsReply, connection: Connection, choice: Choice) -> None:
    """Put the peers that are asked for, and what they show, into a listing. Raises NotFound for one that is not."""
    peers = await choice.peers(connection)
    sizes = await peer_row.sizes(connection, tenant_id=choice.tenant_id) if peers else {}
    left = LISTING_BYTES
    fitting = []
    for seen in peers:
        shown = reply.peers.add()
        shown.CopyFrom(peer(seen))
        size = sizes.get(seen.peer.peer_id, 0)
        if size <= left:
            left -= size
            fitting.append(seen.peer.peer_id)
        else:
            shown.problem = "it shows more than one listing holds; watch it: mosaic fleet ps -w"
    for row in await peer_row.of_peers(connection, tenant_id=choice.tenant_id, peers=fitting):
        if row.kind == "agent":
            reply.agents.append(health.agent_of(row))
        elif row.kind == "host":
            reply.hosts.append(health.host_of(row))


def put_row(event: pb.WatchEvent, row: SharedRow) -> bool:
    """Make a peer's row the subject of an event; False for a kind that is not of the fleet."""
    if row.kind == "agent":
        event.agent.CopyFrom(health.agent_of(row))
    elif row.kind == "host":
        event.host.CopyFrom(health.host_of(row))
    else:
        return False
    return True


def peer(seen: PeerSeen) -> peers_pb2.PeerCluster:
    """Return a cluster as everybody of the tenant sees it: what it is called, and how old what it shows is."""
    row, feed = seen.peer, seen.feed
    shown = peers_pb2.PeerCluster(
        id=str(row.peer_id),
        tenant=row.tenant,
        name=row.name,
        cluster=row.cluster,
        health=peers_pb2.PEER_HEALTH_REVOKED,
        heard_at=encode.timestamp(row.heard_at),
        paired_at=encode.timestamp(row.paired_at),
        revoked_at=encode.timestamp(row.revoked_at),
        revoked_by=row.revoked_by,
        revoked_reason=row.revoked_reason,
    )
    if row.stands:
        shown.health = peers_pb2.PeerHealth.Value(f"PEER_HEALTH_{(feed.health if feed else 'paired').upper()}")
    if feed is not None:
        shown.problem, shown.agents, shown.version = feed.problem, feed.agents, feed.version
    return shown
