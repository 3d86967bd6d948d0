"""What a watcher takes of the change stream."""

from __future__ import annotations

import pytest
from mosaic_cli.feed import Fleet
from mosaic_proto.v1 import fleet_pb2 as pb


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
