"""bench/links: how soon a link that is gone is noticed, and whether lost packets raise a false alarm.

script/bench links [--hosts 4] [--rounds 3] [--seconds 600] [--loss 10 30]

Real host-agents, each in a network namespace of its own, on a bridge that drops frames by chance, each way. A watcher
on the control plane's own machine tells what was noticed, and when:

- closed: the host-agent is killed (-9), so that its connection closes; noticed: the host is shown without a link.
- silent: the host's plug is pulled, so that nothing closes; noticed: the host is stale.
- a loss of N %: for so many seconds; an alarm is a host that turns stale, or lost. Dials: links made anew meanwhile.

Needs root, iproute2 and nft. Ends with 1 when a promise of the last column is not kept.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import statistics
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from mosaic_proto.v1 import fleet_pb2 as pb

from bench.send import durable_register
from tests.support.checkout import ROOT
from tests.support.loss import lossy
from tests.support.mesh import Mesh, running_mesh
from tests.support.namespaces import Network, network

CLOSED_WITHIN = 1.0
SILENT_WITHIN = 16.0
QUIET_UP_TO = 10
"""Per cent of loss at which no host may turn stale; above, none may be lost."""


@dataclass
class Watcher:
    """The hosts as they are told to whoever watches, and every change with its time (monotonic)."""

    hosts: dict[str, pb.Host] = field(default_factory=dict)
    states: list[tuple[str, str]] = field(default_factory=list)
    """(host, state) at each change of state"""
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self, mesh: Mesh) -> None:
        """Watch until cancelled."""
        async for event in mesh.fleet.Watch(pb.WatchRequest()):
            if event.WhichOneof("event") != "host":
                continue
            before = self.hosts.get(event.host.name)
            self.hosts[event.host.name] = event.host
            if before is not None and before.state != event.host.state:
                self.states.append((event.host.name, pb.HostState.Name(event.host.state).removeprefix("HOST_STATE_")))
            self.changed.set()

    async def until(self, name: str, condition: Callable[[pb.Host], bool], *, seconds: float = 60.0) -> float:
        """Wait until a host is so; returns when that was told."""
        async with asyncio.timeout(seconds):
            while name not in self.hosts or not condition(self.hosts[name]):
                self.changed.clear()
                await self.changed.wait()
        return time.monotonic()

    async def all_well(self, *, seconds: float = 120.0) -> None:
        """Wait until every host is live and linked."""
        for name in list(self.hosts):
            await self.until(name, lambda host: host.linked and host.state == pb.HOST_STATE_LIVE, seconds=seconds)


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table. `kept`: whether the promise is."""

    case: str
    samples: int
    found: str
    promise: str
    kept: bool


@contextlib.asynccontextmanager
async def watching(mesh: Mesh) -> AsyncIterator[Watcher]:
    """Lend a watcher that watches."""
    watcher = Watcher()
    task = asyncio.create_task(watcher.run(mesh))
    try:
        yield watcher
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _times(case: str, taken: list[float], promise: float) -> Row:
    found = f"p50 {statistics.median(taken):.2f} s, longest {max(taken):.2f} s"
    return Row(case, len(taken), found, f"within {promise:g} s", max(taken) <= promise)


async def closed(mesh: Mesh, watcher: Watcher, rounds: int) -> Row:
    """Kill host-agents, one after another."""
    taken = []
    for _ in range(rounds):
        for name, host in mesh.hosts.items():
            await watcher.all_well()
            began = time.monotonic()
            host.program.kill()
            taken.append(await watcher.until(name, lambda row: not row.linked) - began)
            host.program.start()
    await watcher.all_well()
    return _times("closed", taken, CLOSED_WITHIN)


async def silent(mesh: Mesh, switch: Network, watcher: Watcher, rounds: int) -> Row:
    """Pull the plugs of all hosts at once."""
    taken: list[float] = []
    for _ in range(rounds):
        await watcher.all_well()
        began = time.monotonic()
        for name in mesh.hosts:
            switch.cut(name)
        stale = [watcher.until(name, lambda row: row.state == pb.HOST_STATE_STALE) for name in mesh.hosts]
        taken += [at - began for at in await asyncio.gather(*stale)]
        for name in mesh.hosts:
            switch.heal(name)
    await watcher.all_well()
    return _times("silent", taken, SILENT_WITHIN)


async def alarms(switch: Network, watcher: Watcher, percent: int, seconds: float) -> Row:
    """Lose frames for a while, and count what was taken for an alarm, and how often a link was made anew."""
    await watcher.all_well()
    epochs = {name: host.link_epoch for name, host in watcher.hosts.items()}
    watcher.states.clear()
    with lossy(switch, percent):
        await asyncio.sleep(seconds)
    states = [state for _, state in watcher.states]
    stale, lost = states.count("STALE"), states.count("LOST")
    await watcher.all_well()
    dials = sum(host.link_epoch - epochs[name] for name, host in watcher.hosts.items())
    promise, kept = ("none stale", not stale + lost) if percent <= QUIET_UP_TO else ("none lost", not lost)
    case = f"{percent} % lost for {seconds:g} s"
    return Row(case, len(watcher.hosts), f"{stale} stale, {lost} lost, {dials} dials", promise, kept)


async def run(hosts: int, rounds: int, seconds: float, losses: list[int]) -> list[Row]:
    """Measure, and return the table."""
    rows = []
    with durable_register() as (_folder, url), network() as switch:
        async with running_mesh(url, listen=switch.here) as mesh, watching(mesh) as watcher:
            for number in range(hosts):
                name = f"host{number}"
                await mesh.join(name, prefix=switch.add(name))
                await watcher.until(name, lambda row: row.linked)
            if rounds:
                rows.append(await closed(mesh, watcher, rounds))
                rows.append(await silent(mesh, switch, watcher, rounds))
            rows += [await alarms(switch, watcher, percent, seconds) for percent in losses]
    return rows


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description="How soon a link that is gone is noticed, and false alarms.")
    parser.add_argument("--hosts", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3, help="of closed and silent links; 0: none")
    parser.add_argument("--seconds", type=float, default=600.0, help="of each loss")
    parser.add_argument("--loss", type=int, nargs="*", default=[10, 30], metavar="PERCENT", help="each way")
    options = parser.parse_args()
    os.chdir(ROOT)
    rows = asyncio.run(run(options.hosts, options.rounds, options.seconds, options.loss))
    print(f"{'case':<24}{'samples':>8}  {'found':<40}{'promise':<16}kept")
    for row in rows:
        kept = "yes" if row.kept else "NO"
        print(f"{row.case:<24}{row.samples:>8}  {row.found:<40}{row.promise:<16}{kept}")
    sys.exit(0 if all(row.kept for row in rows) else 1)


if __name__ == "__main__":
    main()
