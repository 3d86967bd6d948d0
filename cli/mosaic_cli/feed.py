"""The fleet as it changes: a snapshot, then every change after it, through lost connections without gap or repeat."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from google.protobuf.timestamp_pb2 import Timestamp
from mosaic_framework.errors import Unreachable
from mosaic_proto.v1 import fleet_pb2 as pb
from mosaic_proto.v1 import peers_pb2

from mosaic_cli.client import Connection

_PAUSE_FIRST, _PAUSE_MOST = 0.2, 3.0

Event = TypeVar("Event")


@dataclass(slots=True)
class Fleet:
    """What is known of a tenant's agents and hosts, by id; `cursor` is where a new stream goes on.

    Those of another cluster by its name and their id: it chooses its ids itself. `peers` by the id of the pairing.
    """

    agents: dict[str, pb.Agent] = field(default_factory=dict)
    hosts: dict[str, pb.Host] = field(default_factory=dict)
    peers: dict[str, peers_pb2.PeerCluster] = field(default_factory=dict)
    cursor: str = ""
    complete: bool = False
    clock_ahead: float = 0.0
    """Seconds by which the database's clock is ahead of this machine's."""

    def take(self, event: pb.WatchEvent) -> bool:
        """Apply one event. Returns whether there is something new to show. A reset empties what was known."""
        kind = event.WhichOneof("event")
        if kind == "reset":
            self.forget()
            return False
        known = False
        if kind == "agent":
            before = self.agents.pop(_key(event.agent), None)
            if not event.agent.removed:
                self.agents[_key(event.agent)] = event.agent
                # Told with the change before it, whose row was read after this one.
                known = self.complete and before == event.agent
            elif event.agent.cluster and before is not None:
                # Nothing is said of it any more, not even what it was called.
                event.agent.host, event.agent.name = before.host, before.name
        elif kind == "host" and self.hosts.get(_key(event.host)) == event.host:
            known = self.complete
        elif kind == "host":
            self.hosts.pop(_key(event.host), None)
            if not event.host.removed:
                self.hosts[_key(event.host)] = event.host
        elif kind == "peer":
            self.take_peer(event.peer)
        elif kind == "bookmark" and event.bookmark.snapshot_complete:
            self.complete = True
        self.cursor = event.cursor or self.cursor
        return self.complete and not known

    def take_peer(self, peer: peers_pb2.PeerCluster) -> None:
        """Know a cluster as it is now; with a pairing goes all that was shown through it."""
        self.peers[peer.id] = peer
        self.gone_with(peer)

    def gone_with(self, peer: peers_pb2.PeerCluster) -> list[pb.WatchEvent]:
        """Forget what a peer showed whose pairing is over; returns an event for each agent and host that went."""
        if peer.health != peers_pb2.PEER_HEALTH_REVOKED:
            return []
        agents = [self.agents.pop(key) for key, one in list(self.agents.items()) if one.cluster == peer.name]
        hosts = [self.hosts.pop(key) for key, one in list(self.hosts.items()) if one.cluster == peer.name]
        return [
            *(pb.WatchEvent(agent=_gone(one, pb.Agent(host=one.host, state=pb.AGENT_STATE_UNKNOWN))) for one in agents),
            *(pb.WatchEvent(host=_gone(one, pb.Host())) for one in hosts),
        ]

    def forget(self) -> None:
        """Begin anew: a snapshot tells of all that is there, and not of what is gone."""
        self.agents.clear()
        self.hosts.clear()
        self.peers.clear()
        self.cursor, self.complete = "", False

    def now(self) -> Timestamp:
        """Return the database's time, by this machine's clock and the difference seen at the start."""
        moment = Timestamp()
        moment.FromNanoseconds(int((time.time() + self.clock_ahead) * 1e9))
        return moment


def follow(
    connection: Connection,
    *,
    cursor: str = "",
    cluster: str = "",
    deadline: float | None = None,
    on_loss: Callable[[Unreachable], None] | None = None,
    on_reset: Callable[[str], None] | None = None,
) -> Iterator[tuple[Fleet, pb.WatchEvent]]:
    """Yield the fleet and the event after the snapshot and after each change, until `deadline` (time.monotonic()).

    `cluster`: whose, as in WatchRequest.
    With a `cursor` of an earlier stream there is no snapshot, only what changed after it.
    A lost connection is made again, and the stream goes on at its cursor; `on_loss` is told once for each loss.
    A cursor that nothing can go on from is told to `on_reset` with why; a snapshot follows.
    A control plane that cannot be reached at the first try raises Unreachable.
    """
    fleet = Fleet(cursor=cursor, complete=bool(cursor), clock_ahead=_clock_difference(connection))

    def start() -> Iterator[pb.WatchEvent]:
        if not fleet.cursor:
            fleet.forget()  # of a snapshot that broke off half way
        request = pb.WatchRequest(tenant=connection.tenant, cursor=fleet.cursor, cluster=cluster)
        return connection.stream(connection.fleet.Watch, request, until=deadline)

    for event in resumed(connection, start, deadline=deadline, on_loss=on_loss):
        if fleet.complete and event.WhichOneof("event") == "peer":
            yield from ((fleet, gone) for gone in fleet.gone_with(event.peer))
        if fleet.take(event):
            yield fleet, event
        if on_reset and event.WhichOneof("event") == "reset":
            on_reset(event.reset.reason)


def resumed(
    connection: Connection,
    start: Callable[[], Iterator[Event]],
    *,
    deadline: float | None = None,
    on_loss: Callable[[Unreachable], None] | None = None,
) -> Iterator[Event]:
    """Yield the events of a stream that `start` begins; it is begun again, at its cursor, when the connection is lost.

    A stream tells in itself that its cursor was too old, and goes on with a listing anew.
    """
    pause = _PAUSE_FIRST
    lost = False
    while deadline is None or time.monotonic() < deadline:
        try:
            for event in start():
                pause, lost = _PAUSE_FIRST, False
                yield event
            raise Unreachable("the stream ended", why="the control plane is stopping")
        except Unreachable as error:
            if deadline is not None and time.monotonic() >= deadline:
                return
            if on_loss and not lost:
                on_loss(error)
            lost = True
            time.sleep(pause)  # nothing tells us when a control plane is back
            pause = min(pause * 2, _PAUSE_MOST)
            connection.reconnect()


def _gone(row: Any, instead: Any) -> Any:
    instead.id, instead.tenant, instead.cluster, instead.name = row.id, row.tenant, row.cluster, row.name
    instead.removed = True
    return instead


def _key(row: pb.Agent | pb.Host) -> str:
    return f"{row.cluster}/{row.id}" if row.cluster else row.id


def _clock_difference(connection: Connection) -> float:
    """Return by how many seconds the database's clock is ahead of ours."""
    reply: Any = connection.call(connection.fleet.GetCluster, pb.GetClusterRequest())
    return float(reply.at.ToNanoseconds() / 1e9 - time.time()) if reply.at.seconds else 0.0
