"""What each cluster shows of its peers, against what their owners' rows and grants say that it may."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

import grpc.aio
from mosaic_controlplane.federation.sharing import Sharing
from mosaic_controlplane.register import peer_grant
from mosaic_framework.identity_files import StoredIdentity
from mosaic_proto.v1 import fleet_pb2, fleet_pb2_grpc

from bench.faults.clients import open_channel
from bench.faults.history import View
from bench.faults.views import Watcher
from bench.federation_faults.cluster import Cluster
from bench.federation_faults.history import AcrossRun
from bench.federation_faults.layout import MOST_CLAIMED, SIDES, Side
from bench.federation_faults.owners import FAILURES, owned
from bench.federation_faults.site import Site

_LIST_SECONDS = 3.0
_GIVE_UP_SECONDS = 30.0
_SAMPLE_SECONDS = 0.3

Shown = dict[str, bytes]
"""Name of an agent or a host → its row, with every field that is shown of it."""


def shown_of(agents: Iterable[fleet_pb2.Agent], hosts: Iterable[fleet_pb2.Host]) -> Shown:
    """Return rows in a form that can be compared: without what says at whose place they are shown (pure).

    Nor with the times of a host-agent that only says again what was so: that is no change, of which nobody is told
    within a cluster either.
    """
    found: Shown = {}
    rows = {f"agent {one.name} {one.id}": one for one in agents} | {f"host {one.name} {one.id}": one for one in hosts}
    for name, row in rows.items():
        if row.removed:
            continue
        copy = type(row)()
        copy.CopyFrom(row)
        copy.ClearField("tenant")
        copy.ClearField("cluster")
        if isinstance(copy, fleet_pb2.Host):
            copy.ClearField("last_beat_at")
        elif "-played" not in copy.host:
            copy.ClearField("reported_at")
            copy.ClearField("state_since")
        found[name] = copy.SerializeToString(deterministic=True)
    return found


def granted(sharing: Sharing, agents: Iterable[fleet_pb2.Agent], hosts: Iterable[fleet_pb2.Host]) -> Shown:
    """Return what a peer is to be shown of all that there is (pure)."""
    shared = []
    for agent in agents:
        copy = fleet_pb2.Agent()
        copy.CopyFrom(agent)
        if (one := sharing.agent(copy)) is not None:
            shared.append(one)
    occupied = {agent.host for agent in shared}
    places = []
    for host in hosts:
        place = fleet_pb2.Host()
        place.CopyFrom(host)
        if (other := sharing.host(place, with_agents=host.name in occupied)) is not None:
            places.append(other)
    return shown_of(shared, places)


class PeerWatcher(Watcher):
    """A stream of changes of one peer's rows."""

    def __init__(self, side: Side, name: str, identity: StoredIdentity, address: str) -> None:
        super().__init__(name, identity, address, cluster=side.owner)
        self.side = side

    def rows(self) -> Shown:
        return shown_of(self.agents.values(), self.hosts.values())


def watchers(site: Site) -> list[PeerWatcher]:
    """Return one for each side, at the last replica of the viewer."""
    return [
        PeerWatcher(side, f"watch {side.owner} at {side.viewer}", viewer.operator, viewer.addresses[-1])
        for side in SIDES
        for viewer in (site.clusters[side.viewer],)
    ]


async def _list(identity: StoredIdentity, address: str, cluster: str) -> fleet_pb2.ListAgentsReply | None:
    async with open_channel(identity, address) as channel:
        stub: fleet_pb2_grpc.FleetServiceAsyncStub = fleet_pb2_grpc.FleetServiceStub(channel)
        try:
            return await stub.ListAgents(fleet_pb2.ListAgentsRequest(cluster=cluster), timeout=_LIST_SECONDS)
        except grpc.aio.AioRpcError:
            return None


async def _truth(owner: Cluster, viewer: str) -> Shown | None:
    """Return what `viewer` is to be shown; None while the owner does not answer."""
    own = await _list(owner.operator, owner.addresses[0], "")
    if own is None:
        return None
    async with owned(owner) as mine:
        peer_id = await mine.register.fetchval(
            "select peer_id from fleet.peer where name = $1 and revoked_at is null", viewer
        )
        grants = await peer_grant.active(mine.register, tenant_id=mine.tenant_id, peer_id=peer_id)
    return granted(Sharing.of(grants), own.agents, own.hosts)


async def converge(site: Site, watching: list[PeerWatcher], healed_at: float) -> list[View]:
    """Look until every view has shown what is so, and say of each when it did first.

    Real seats still do what was sent to them: what a view shows of one is right again a moment after it is not.
    """
    after: dict[str, float] = {}
    last: dict[str, str] = {}
    while time.monotonic() < healed_at + _GIVE_UP_SECONDS:
        await asyncio.gather(*(_look(site, side, watching, healed_at, after, last) for side in SIDES))
        if len(after) == len(last):
            break
        await asyncio.sleep(0.1)
    return [View(name, after.get(name), what) for name, what in last.items()]


async def _look(
    site: Site,
    side: Side,
    watching: list[PeerWatcher],
    healed_at: float,
    after: dict[str, float],
    last: dict[str, str],
) -> None:
    true = await _truth(site.clusters[side.owner], side.viewer)
    viewer = site.clusters[side.viewer]
    replies = await asyncio.gather(*(_list(viewer.operator, at, side.owner) for at in viewer.addresses))
    now = time.monotonic() - healed_at
    found = {
        f"{side.owner} listed at {side.viewer}{number}": reply and shown_of(reply.agents, reply.hosts)
        for number, reply in enumerate(replies, 1)
    }
    found |= {watcher.name: watcher.rows() for watcher in watching if watcher.side == side}
    for name, shown in found.items():
        last[name] = difference(shown, true)
        if not last[name]:
            after.setdefault(name, now)


def difference(shown: Shown | None, true: Shown | None) -> str:
    """Say how what is shown is not what is so; empty: it is (pure)."""
    if shown is None or true is None:
        return "the viewer does not answer" if shown is None else "the owner does not answer"
    ghosts, missing = sorted(shown.keys() - true.keys()), sorted(true.keys() - shown.keys())
    other = sorted(name for name in shown.keys() & true.keys() if shown[name] != true[name])
    told = {"ghosts": ghosts, "missing": missing, "otherwise": other}
    said = "; ".join(f"{what}: {', '.join(names[:4])} ({len(names)})" for what, names in told.items() if names)
    for name in other[:1]:
        kind = fleet_pb2.Agent if name.startswith("agent") else fleet_pb2.Host
        rows = (kind.FromString(rows[name]) for rows in (shown, true))
        said += " [" + " | ".join(" ".join(str(row).split()) for row in rows) + "]"
    return said


async def sample(site: Site, run: AcrossRun) -> None:
    """Note whatever is shown of others, and how many cards they hold, until cancelled."""
    while True:
        for name, cluster in site.clusters.items():
            reply = await _list(cluster.operator, cluster.addresses[0], "*")
            shown = run.shown.setdefault(name, set())
            for agent in reply.agents if reply else ():
                if agent.cluster:
                    shown.add((agent.cluster, agent.name, getattr(agent, "class")))
        await _count_cards(site.clusters["b"], run)
        await asyncio.sleep(_SAMPLE_SECONDS)


async def _count_cards(owner: Cluster, run: AcrossRun) -> None:
    try:
        async with owned(owner) as mine:
            rows = await mine.register.fetch(
                "select peer.name, count(*) from fleet.card join fleet.peer on peer_id = holder_id"
                " where holder_kind = 'peer' and status = 'claimed' group by peer.name"
            )
    except FAILURES:
        return
    for name, number in rows:
        assert name in MOST_CLAIMED
        run.held[name] = max(run.held.get(name, 0), number)
