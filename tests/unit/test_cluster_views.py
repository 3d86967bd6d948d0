"""Other clusters in what a person sees: nobody's row hides another's, and what is not heard of is said."""

from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp
from mosaic_cli.cluster_view import clusters_told, columns_for
from mosaic_cli.feed import Fleet
from mosaic_cli.fleet_view import LS_COLUMNS, PS_COLUMNS, agent_rows
from mosaic_proto.v1 import fleet_pb2 as pb
from mosaic_proto.v1 import peers_pb2

NOW = Timestamp(seconds=10_000)


def peer(health: str, *, heard: int = 9_990, **more: str) -> peers_pb2.PeerCluster:
    value = peers_pb2.PeerHealth.Value(f"PEER_HEALTH_{health}")
    return peers_pb2.PeerCluster(id="p1", name="west", health=value, heard_at=Timestamp(seconds=heard), **more)


def agent(name: str, cluster: str = "", *, removed: bool = False) -> pb.WatchEvent:
    return pb.WatchEvent(agent=pb.Agent(id="1", host="w1", name=name, cluster=cluster, removed=removed))


def test_a_peers_row_of_the_same_id_hides_none_of_our_own() -> None:
    fleet = Fleet()
    for event in (agent("ours"), agent("theirs", "west")):
        fleet.take(event)
    assert {one.name for one in fleet.agents.values()} == {"ours", "theirs"}
    gone = agent("", "west", removed=True)
    fleet.take(gone)
    assert [one.name for one in fleet.agents.values()] == ["ours"]
    assert gone.agent.name == "theirs", "who watches is told what went"


def test_with_a_pairing_goes_all_that_was_shown_through_it() -> None:
    fleet = Fleet()
    host = pb.WatchEvent(host=pb.Host(id="h", name="w1", cluster="west"))
    for event in (agent("ours"), agent("theirs", "west"), host, pb.WatchEvent(peer=peer("REVOKED"))):
        fleet.take(event)
    assert [one.name for one in fleet.agents.values()] == ["ours"]
    assert not fleet.hosts


def test_rows_of_a_silent_cluster_are_old_whatever_they_say_and_no_younger_than_its_last_word() -> None:
    shown = pb.Agent(id="1", host="w1", name="ada", cluster="west", reported_at=Timestamp(seconds=20_000))
    (row,) = agent_rows([shown], [], NOW, peers=[peer("STALE", heard=9_820)])
    assert row.old
    assert row.whose == "west (STALE 3m)"
    assert row.address == "west/w1/ada"
    (fresh,) = agent_rows([shown], [], NOW, peers=[peer("LIVE")])
    assert not fresh.old


def test_whose_a_row_is_stands_first_as_soon_as_one_is_not_ours() -> None:
    ours = agent_rows([pb.Agent(id="1", name="ada")], [], NOW)
    theirs = agent_rows([pb.Agent(id="1", name="ada", cluster="west")], [], NOW, peers=[peer("LIVE")])
    for columns in (PS_COLUMNS, LS_COLUMNS):
        assert columns_for(columns, ours) == columns
        first = columns_for(columns, [*ours, *theirs])[0]
        assert (first.title, first.wide) == ("CLUSTER", False)


def test_clusters_that_are_not_heard_of_are_said_and_make_what_is_shown_old() -> None:
    assert clusters_told([peer("LIVE", heard=9_999)], NOW, chosen=False) == ([], False)
    said, old = clusters_told([peer("STALE", heard=9_820, problem="it cannot be reached")], NOW, chosen=False)
    assert (said, old) == (["stale: cluster west (STALE 3m): it cannot be reached"], True)
    said, old = clusters_told([peer("REVOKED", revoked_by="peer")], NOW, chosen=False)
    assert said[0].startswith("revoked: cluster west: ended by them")
    assert not old
    assert clusters_told([peer("REVOKED", revoked_by="peer")], NOW, chosen=True)[1]
