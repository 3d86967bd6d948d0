"""What a peer shows, as it may be shown here (pure): what is not known to be so any more is not said to be."""

from __future__ import annotations

from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp
from mosaic_proto.v1 import fleet_pb2

from mosaic_controlplane.register.peer_row import SharedRow

LIVE = "live"


def agent_of(row: SharedRow) -> fleet_pb2.Agent:
    """Return a peer's agent. Of a peer that is not live its last state is only told, in the detail."""
    agent = fleet_pb2.Agent.FromString(row.content)
    agent.id, agent.tenant, agent.cluster, agent.removed = str(row.id), row.tenant, row.cluster, row.removed
    if row.health != LIVE and not row.removed:
        was = fleet_pb2.AgentState.Name(agent.state).removeprefix("AGENT_STATE_").lower()
        agent.state = fleet_pb2.AGENT_STATE_UNKNOWN
        agent.state_source = "heartbeat"
        agent.state_detail = f"was {was} when cluster {row.cluster} was last heard of"
    return agent


def host_of(row: SharedRow) -> fleet_pb2.Host:
    """Return a peer's host. One that is live there was so when its cluster was last heard of, and is as old as that."""
    host = fleet_pb2.Host.FromString(row.content)
    host.id, host.tenant, host.cluster, host.removed = str(row.id), row.tenant, row.cluster, row.removed
    if host.state == fleet_pb2.HOST_STATE_LIVE and not row.removed:
        if row.health != LIVE:
            host.state = fleet_pb2.HOST_STATE_STALE if row.health == "stale" else fleet_pb2.HOST_STATE_LOST
            host.linked = False
        if row.heard_at is not None:
            host.last_beat_at.CopyFrom(_timestamp(row.heard_at))
    return host


def _timestamp(at: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(at)
    return stamp
