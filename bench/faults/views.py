"""Ways of looking at the fleet: a list from each replica, and a watcher at each that goes on from its cursor when it
was cut off.
"""

from __future__ import annotations

import asyncio
import time

import grpc.aio
from mosaic_framework.identity_files import StoredIdentity
from mosaic_proto.v1 import fleet_pb2, fleet_pb2_grpc

from bench.faults.clients import open_channel
from bench.faults.history import View
from bench.faults.site import Site

_LIST_SECONDS = 3.0
_PULSE_ANSWERED_SECONDS = 1.5
_PULSE_SECONDS = 1.0
_GIVE_UP_SECONDS = 30.0

Shown = dict[str, tuple[str, int]]
"""agent → its host's state, and the process in its terminal; 0: it has ended, and is not started again yet"""
_RUNS = {
    fleet_pb2.AGENT_STATE_AVAILABLE,
    fleet_pb2.AGENT_STATE_WORKING,
    fleet_pb2.AGENT_STATE_WAITING,
    fleet_pb2.AGENT_STATE_STUCK,
}


def _shown(agents: list[fleet_pb2.Agent], hosts: list[fleet_pb2.Host]) -> Shown:
    states = {host.name: fleet_pb2.HostState.Name(host.state).removeprefix("HOST_STATE_").lower() for host in hosts}
    return {
        agent.name: (states.get(agent.host, "not listed"), agent.pid if agent.state in _RUNS else 0)
        for agent in agents
        if not agent.removed
    }


class Watcher:
    """One stream of changes, folded into what it shows now."""

    def __init__(self, name: str, identity: StoredIdentity, address: str, *, cluster: str = "") -> None:
        self.name = name
        self._identity, self._address, self._cluster = identity, address, cluster
        self.agents: dict[str, fleet_pb2.Agent] = {}
        self.hosts: dict[str, fleet_pb2.Host] = {}
        self._cursor = ""
        self.resumed = 0
        self.listed_anew = 0

    def shows(self) -> Shown:
        return _shown(list(self.agents.values()), list(self.hosts.values()))

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            async with open_channel(self._identity, self._address) as channel:
                following = asyncio.create_task(self._follow(channel))
                pulse = asyncio.create_task(self._pulse(channel))
                try:
                    await asyncio.wait({following, pulse}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for task in (following, pulse):
                        task.cancel()
                    await asyncio.gather(following, pulse, return_exceptions=True)
            await asyncio.sleep(0.1)

    async def _pulse(self, channel: grpc.aio.Channel) -> None:
        """Return when the replica does not answer: a stream that brings nothing looks like one that is cut off."""
        stub: fleet_pb2_grpc.FleetServiceAsyncStub = fleet_pb2_grpc.FleetServiceStub(channel)
        try:
            while True:
                await stub.GetCluster(fleet_pb2.GetClusterRequest(), timeout=_PULSE_ANSWERED_SECONDS)
                await asyncio.sleep(_PULSE_SECONDS)
        except grpc.aio.AioRpcError:
            return

    async def _follow(self, channel: grpc.aio.Channel) -> None:
        stub: fleet_pb2_grpc.FleetServiceAsyncStub = fleet_pb2_grpc.FleetServiceStub(channel)
        if self._cursor:
            self.resumed += 1
        else:
            self.agents, self.hosts = {}, {}
        try:
            async for event in stub.Watch(fleet_pb2.WatchRequest(cursor=self._cursor, cluster=self._cluster)):
                match event.WhichOneof("event"):
                    case "agent":
                        self.agents[event.agent.id] = event.agent
                    case "host":
                        self.hosts[event.host.id] = event.host
                    case "reset":
                        self.listed_anew += 1
                        self.agents, self.hosts = {}, {}
                self._cursor = event.cursor or ("" if event.HasField("reset") else self._cursor)
        except grpc.aio.AioRpcError:
            return


async def listed(identity: StoredIdentity, address: str) -> Shown:
    """Ask a replica for all agents, over a connection of its own. Names the failure when there is no answer."""
    async with open_channel(identity, address) as channel:
        stub: fleet_pb2_grpc.FleetServiceAsyncStub = fleet_pb2_grpc.FleetServiceStub(channel)
        try:
            reply = await stub.ListAgents(fleet_pb2.ListAgentsRequest(), timeout=_LIST_SECONDS)
        except grpc.aio.AioRpcError as error:
            return {f"({error.code().name.lower()})": ("", 0)}
        return _shown(list(reply.agents), list(reply.hosts))


async def converge(site: Site, watchers: list[Watcher], healed_at: float) -> list[View]:
    """Look until every view shows what is so, and say of each when it did."""
    names = [f"list {address}" for address in site.addresses]
    after: dict[str, float] = {}
    shown: dict[str, Shown] = {}
    while time.monotonic() < healed_at + _GIVE_UP_SECONDS:
        terminals = await asyncio.to_thread(site.terminals)
        true = {agent: ("live", terminals.get(agent, 0)) for agent in site.agents}
        lists = await asyncio.gather(*(listed(site.operator, address) for address in site.addresses))
        shown = dict(zip(names, lists, strict=True)) | {watcher.name: watcher.shows() for watcher in watchers}
        now = time.monotonic() - healed_at
        for name, what in shown.items():
            if what != true:
                after.pop(name, None)
            else:
                after.setdefault(name, now)
        if len(after) == len(shown):
            break
        await asyncio.sleep(0.1)
    return [View(name, after.get(name), _difference(what, true)) for name, what in shown.items()]


def _difference(shown: Shown, true: Shown) -> str:
    wrong = {name for name in shown.keys() | true.keys() if shown.get(name) != true.get(name)}
    return ", ".join(f"{name} {shown.get(name)} is {true.get(name)}" for name in sorted(wrong))
