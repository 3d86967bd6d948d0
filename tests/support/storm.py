"""Many seats on one host, and the sudden death of some: what the register hears of it, and when."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from mosaic_framework import units
from mosaic_framework.catalog import Catalog
from mosaic_framework.ids import new_id
from mosaic_framework.paths import Home
from mosaic_framework.resolve import resolve_roster
from mosaic_framework.roster_file import parse_roster
from mosaic_proto.v1 import fleet_pb2

from tests.support.mesh import Host, Mesh
from tests.support.supervised import install_units
from tests.support.user_systemd import user_systemd

_PATIENCE = 300.0
AVAILABLE = fleet_pb2.AGENT_STATE_AVAILABLE
EXITED = fleet_pb2.AGENT_STATE_EXITED


@dataclass
class Storm:
    """What was measured. Times are seconds after the kill."""

    started: float = 0.0
    seen: dict[str, float] = field(default_factory=dict)
    back: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Usage:
    """What a set of processes uses: CPU seconds so far, and memory of their own in bytes."""

    cpu: float
    memory: int

    @classmethod
    def of(cls, processes: list[psutil.Process]) -> Usage:
        cpu, memory = 0.0, 0
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                cpu += times.user + times.system
                memory += process.memory_full_info().uss
        return cls(cpu, memory)


@contextlib.asynccontextmanager
async def host_under(mesh: Mesh, supervision: str) -> AsyncIterator[Host]:
    """A live host whose seats are supervised so; skips where there can be no systemd."""
    host = await mesh.join("alpha", started=False)
    home = Home(host.program.home)
    with contextlib.ExitStack() as stack:
        if supervision == units.SYSTEMD:
            environment = {**os.environ, **host.environment}
            manager = stack.enter_context(user_systemd(host.folder, environment))
            host.environment["PS1"] = environment["PS1"] = "$ "
            install_units(home.root, manager)
            units.write_supervision(home, units.SYSTEMD)
            stack.callback(host.program.kill)
        host.program.start()
        await mesh.until_host("alpha", fleet_pb2.HOST_STATE_LIVE)
        yield host


async def apply_shells(mesh: Mesh, host: Host, count: int) -> None:
    """Want `count` shells on a host."""
    agents = [{"name": f"s{number:03}", "runtime": "shell", "host": host.name} for number in range(count)]
    wanted = {"version": 1, "transport": "tmux", "tmux": {"socket_name": host.socket_name}, "agents": agents}
    catalog = Catalog.open()
    roster = parse_roster(json.dumps(wanted), source="roster.json", catalog=catalog).roster
    resolved = resolve_roster(roster, catalog=catalog)
    await mesh.fleet.ApplyRoster(
        fleet_pb2.ApplyRosterRequest(
            request_id=str(new_id()), document=resolved.document, seats=resolved.seats, base_version=0
        ),
        wait_for_ready=True,
    )


async def start_all(mesh: Mesh, host: Host, count: int) -> float:
    """Start `count` shells and wait until all are available; return the seconds that took."""
    began = time.monotonic()
    await apply_shells(mesh, host, count)
    async with asyncio.timeout(_PATIENCE):
        while True:
            agents = (await mesh.agents()).values()
            if len(agents) == count and all(agent.state == AVAILABLE for agent in agents):
                return time.monotonic() - began
            await asyncio.sleep(0.1)


async def storm(mesh: Mesh, kills: int) -> Storm:
    """kill -9 the programs of `kills` seats at once; wait until the register shows each as ended, and as back."""
    before = await mesh.agents()
    victims = random.Random(7).sample(sorted(before), kills)
    found = Storm()
    stream = mesh.fleet.Watch(fleet_pb2.WatchRequest(), wait_for_ready=True)
    shown = asyncio.Event()

    async def follow() -> None:
        async for event in stream:
            if event.HasField("bookmark") and event.bookmark.snapshot_complete:
                shown.set()
            agent = event.agent
            if not shown.is_set() or agent.name not in victims:
                continue
            if agent.name not in found.seen and (agent.state == EXITED or agent.run_id != before[agent.name].run_id):
                found.seen[agent.name] = time.monotonic() - began
            if agent.state == AVAILABLE and agent.run_id != before[agent.name].run_id:
                found.back.setdefault(agent.name, time.monotonic() - began)
            if len(found.back) == kills:
                return

    began = time.monotonic()
    following = asyncio.create_task(follow())
    try:
        async with asyncio.timeout(_PATIENCE):
            await shown.wait()
            began = time.monotonic()
            for name in victims:
                os.kill(before[name].pid, signal.SIGKILL)
            await following
    finally:
        following.cancel()
        stream.cancel()
    return found


def waiters(home: Path) -> list[psutil.Process]:
    """The main processes of the units of a home."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if str(home) in words and any(word.startswith("mosaic_hostagent.units.") for word in words):
            found.append(process)
    return found


def tmux_server(host: Host) -> psutil.Process:
    """The tmux server of a host."""
    return psutil.Process(int(host.tmux("display-message", "-p", "#{pid}")))


def host_agent(host: Host) -> psutil.Process:
    """The host-agent's process."""
    assert host.program.process is not None
    return psutil.Process(host.program.process.pid)
