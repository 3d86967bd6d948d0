"""What a watcher takes of the change stream."""

from __future__ import annotations

import pytest
from mosaic_cli.feed import Fleet
from mosaic_proto.v1 import fleet_pb2 as pb
from mosaic_proto.v1 import peers_pb2


@pytest.mark.parametrize(
    ("one", "another"),
    [
        (pb.WatchEvent(agent=pb.Agent(id="a", pid=1)), pb.WatchEvent(agent=pb.Agent(id="a", pid=2))),
        (pb.WatchEvent(host=pb.Host(id="h", seats=1)), pb.WatchEvent(host=pb.Host(id="h", seats=2))),
    ],
    ids=["agent", "host"],
)
def test_a_row_is_told_once_though_two_changes_brought_it(one: pb.WatchEvent, another: pb.WatchEvent) -> None:
    fleet = Fleet()
    assert not fleet.take(one), "a snapshot is told when it is whole"
    assert fleet.take(pb.WatchEvent(bookmark=pb.Bookmark(snapshot_complete=True), cursor="1"))
    again = pb.WatchEvent()
    again.CopyFrom(one)
    again.cursor = "2"
    assert not fleet.take(again)
    assert fleet.cursor == "2"
    assert fleet.take(another)
    assert fleet.take(one), "what is as it was before has changed since"


def test_with_a_pairing_each_row_that_was_shown_through_it_is_told_to_be_gone() -> None:
    fleet = Fleet()
    fleet.take(
        pb.WatchEvent(agent=pb.Agent(id="a", name="ada", host="w1", cluster="west", state=pb.AGENT_STATE_WORKING))
    )
    fleet.take(pb.WatchEvent(host=pb.Host(id="h", name="w1", cluster="west")))
    fleet.take(pb.WatchEvent(agent=pb.Agent(id="a", name="own")))
    assert fleet.gone_with(peers_pb2.PeerCluster(name="west", health=peers_pb2.PEER_HEALTH_STALE)) == []
    agent, host = fleet.gone_with(peers_pb2.PeerCluster(name="west", health=peers_pb2.PEER_HEALTH_REVOKED))
    assert (agent.agent.removed, agent.agent.name, agent.agent.state) == (True, "ada", pb.AGENT_STATE_UNKNOWN)
    assert (host.host.removed, host.host.name) == (True, "w1")
    assert ([one.name for one in fleet.agents.values()], fleet.hosts) == (["own"], {})
