"""bench/mesh: thousands of simulated hosts of 8 agents on one replica, over mTLS; how what they cost grows.

    .venv/bin/python -m bench.mesh [--sizes 1000,5000,10000] [--steady 20] [--changes 200]

A simulated host has a TLS connection and a leaf of its own and speaks the real link: hello with its seats, beats at
the interval that it is told, reports. There is no tmux behind it. All are of one tenant, written past the 1,000 seats
that a roster takes: the hardest case for lists and watchers. Each size has a fresh register. The last columns are the
ratio of each size to the one before, divided by the ratio of their hosts for what grows with them: 1.0 is linear
growth, or none for what should not grow at all.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
from mosaic_framework.paths import Home

from bench.mesh_parts.hosts import Hosts
from bench.mesh_parts.register import fill
from bench.send import durable_register
from tests.support.checkout import ROOT
from tests.support.ports import free_port
from tests.support.program import Program, eventually

_OTHER_FILES = 500
_PROCESSES = 2
_SETTLES_SECONDS = 8.0


@dataclass
class Measured:
    """One size. CPU in seconds of one core, memory in bytes, times in milliseconds."""

    hosts: int
    linked_seconds: float = 0.0
    link_cpu: float = 0.0
    link_beats: int = 0
    """of those that were linked already"""
    beats: int = 0
    steady_seconds: float = 0.0
    replica_cpu: float = 0.0
    database_cpu: float = 0.0
    memory_before: int = 0
    memory: int = 0
    snapshot: dict[str, Any] = field(default_factory=dict)
    listing: dict[str, Any] = field(default_factory=dict)
    changes: list[float] = field(default_factory=list)
    lost: int = 0
    dialled_again: int = 0
    ended: dict[str, int] = field(default_factory=dict)
    warnings: dict[str, int] = field(default_factory=dict)
    """what the replica's log says of trouble, and how often: a host is not always told why its link ended"""

    @property
    def beat_cpu(self) -> float:
        """Seconds of the replica's CPU a beat, with all else that it does for hosts at rest."""
        return self.replica_cpu / max(1, self.beats)


def _cpu(*processes: psutil.Process) -> float:
    total = 0.0
    for process in processes:
        times = process.cpu_times()
        total += times.user + times.system
    return total


def _database_processes(folder: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if str(folder) in " ".join(process.info["cmdline"] or []):
            found += [process, *process.children()]
            break
    return found


def _cpu_of_database(folder: Path) -> float:
    """CPU of the server's processes that live now; the pool's stay for as long as the replica does."""
    total = 0.0
    for process in _database_processes(folder / "postgres"):
        try:
            total += _cpu(process)
        except psutil.NoSuchProcess:
            continue
    return total


async def measure(hosts: int, *, steady: float, changes: int) -> Measured:
    """Link so many hosts, let them rest, look, and let some change."""
    found = Measured(hosts)
    with durable_register() as (register, url), tempfile.TemporaryDirectory(prefix="mesh-") as name:
        folder, home = Path(name), Path(name) / "controlplane"
        home.mkdir(mode=0o700)
        await fill(url, home, folder, hosts=hosts)
        port = free_port("127.0.0.1")
        environment = {
            "MOSAIC_DATABASE_URL": url,
            "MOSAIC_FLEET_PORT": str(port),
            "MOSAIC_ENROL_PORT": "0",
            "MOSAIC_PEER_PORT": "0",
        }
        program = Program(["mosaic-controlplane", "serve"], home, environment)
        program.start()
        crowds: list[Hosts] = []
        try:
            await eventually((Home(home).run / "controlplane.json").exists, "the control plane serves", program)
            assert program.process is not None
            replica = psutil.Process(program.process.pid)
            found.memory_before = replica.memory_info().rss
            began, spent = time.monotonic(), _cpu(replica)
            shares = [hosts * part // _PROCESSES for part in range(_PROCESSES + 1)]
            for first, last in pairwise(shares):
                crowds.append(Hosts(folder, f"127.0.0.1:{port}", first, last - first))
            await asyncio.gather(*(crowd.linked() for crowd in crowds))
            found.linked_seconds, found.link_cpu = time.monotonic() - began, _cpu(replica) - spent
            found.link_beats = sum([(await crowd.ask("beats"))["beats"] for crowd in crowds])
            await asyncio.sleep(_SETTLES_SECONDS)
            await _rest(found, crowds, replica, register, steady)
            found.snapshot = await _looked("snapshot", found, crowds[0], replica, register)
            found.listing = await _looked("list", found, crowds[0], replica, register)
            told = await crowds[0].ask(f"changes {changes}")
            found.changes, found.lost = told["taken"], told["lost"]
            for crowd in crowds:
                told = await crowd.ask("beats")
                found.dialled_again += told["dialled_again"]
                for why, number in told["ended"].items():
                    found.ended[why] = found.ended.get(why, 0) + number
        finally:
            for crowd in crowds:
                crowd.close()
            program.kill()
            found.warnings = _warnings(program.log)
    return found


def _warnings(log: Path) -> dict[str, int]:
    """Count the warnings and errors of a program's log by what they say."""
    told: dict[str, int] = {}
    for line in log.read_text(errors="replace").splitlines():
        with contextlib.suppress(ValueError):
            entry = json.loads(line)
            if entry.get("level") in ("warning", "error", "critical"):
                told[entry["event"]] = told.get(entry["event"], 0) + 1
    return told


async def _rest(found: Measured, crowds: list[Hosts], replica: psutil.Process, register: Path, seconds: float) -> None:
    """Let all be quiet but for their beats."""
    before = [(await crowd.ask("beats"))["beats"] for crowd in crowds]
    began, spent, spent_there = time.monotonic(), _cpu(replica), _cpu_of_database(register)
    await asyncio.sleep(seconds)
    found.replica_cpu, found.database_cpu = _cpu(replica) - spent, _cpu_of_database(register) - spent_there
    found.steady_seconds = time.monotonic() - began
    found.beats = sum([(await crowd.ask("beats"))["beats"] for crowd in crowds]) - sum(before)
    found.memory = replica.memory_info().rss


async def _looked(what: str, found: Measured, crowd: Hosts, replica: psutil.Process, register: Path) -> dict[str, Any]:
    """Let all be looked at; with `cpu`, what replica and database spent on it in ms, beside what they spend at rest."""
    began, spent = time.monotonic(), _cpu(replica) + _cpu_of_database(register)
    told: dict[str, Any] = await crowd.ask(what)
    spent = _cpu(replica) + _cpu_of_database(register) - spent
    at_rest = (found.replica_cpu + found.database_cpu) / found.steady_seconds * (time.monotonic() - began)
    return {**told, "cpu": (spent - at_rest) * 1000}


_Row = tuple[str, Callable[[Measured], float | None], int, bool]
_ROWS: list[_Row] = [
    ("all linked after, s", lambda m: m.linked_seconds, 1, True),
    ("replica CPU a link, ms", lambda m: (m.link_cpu - m.link_beats * m.beat_cpu) / m.hosts * 1000, 2, False),
    ("replica CPU a beat, us", lambda m: m.beat_cpu * 1e6, 0, False),
    ("database CPU a beat, us", lambda m: m.database_cpu / max(1, m.beats) * 1e6, 0, False),
    ("replica CPU at rest, % of a core", lambda m: m.replica_cpu / m.steady_seconds * 100, 1, True),
    ("beats a second", lambda m: m.beats / m.steady_seconds, 0, True),
    ("replica memory a host, KB", lambda m: (m.memory - m.memory_before) / m.hosts / 1000, 0, False),
    ("replica memory, MB", lambda m: m.memory / 1e6, 0, True),
    ("a watcher's whole snapshot, ms", lambda m: m.snapshot["ms"], 0, True),
    ("   CPU of replica and database, ms", lambda m: m.snapshot["cpu"], 0, True),
    ("ListAgents of all, ms", lambda m: m.listing["ms"], 0, True),
    ("   CPU of replica and database, ms", lambda m: m.listing["cpu"], 0, True),
    ("change until the watcher, p50 ms", lambda m: _percentile(m.changes, 0.5), 1, False),
    ("change until the watcher, p99 ms", lambda m: _percentile(m.changes, 0.99), 1, False),
    ("dialled again while linking", lambda m: m.dialled_again, 0, True),
    ("changes that never came", lambda m: m.lost, 0, False),
    ("links that ended", lambda m: sum(m.ended.values()), 0, False),
]


def _percentile(values: list[float], share: float) -> float | None:
    return values[min(len(values) - 1, int(len(values) * share))] if values else None


def _table(measured: list[Measured]) -> None:
    steps = list(pairwise(measured))
    heads = [f"{m.hosts:,} hosts" for m in measured] + [f"{b.hosts:,}/{a.hosts:,}" for a, b in steps]
    print(f"{'':<36}" + "".join(f"{head:>15}" for head in heads))
    for name, value, digits, grows in _ROWS:
        cells = [_cell(value(m), digits) for m in measured]
        for before, after in steps:
            one, other = value(before), value(after)
            by = after.hosts / before.hosts if grows else 1.0
            cells.append(_cell(other / one / by if one and other else None, 2))
        print(f"{name:<36}" + "".join(f"{cell:>15}" for cell in cells))
    for m in measured:
        for why, number in m.ended.items():
            print(f"{m.hosts:,} hosts: {number} links ended: {why}")
        for what, number in m.warnings.items():
            print(f"{m.hosts:,} hosts: the replica's log says {number} times: {what}")
        for told in (m.snapshot, m.listing):
            if told["error"]:
                print(f"{m.hosts:,} hosts: {told['error']}")


def _cell(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description="How what hosts cost grows with their number.")
    parser.add_argument("--sizes", default="1000,5000,10000")
    parser.add_argument("--steady", type=float, default=20.0, help="seconds of rest that are measured")
    parser.add_argument("--changes", type=int, default=200)
    options = parser.parse_args()
    os.chdir(ROOT)
    # A connection is a file at both ends. Children inherit the limit.
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    sizes = [int(size) for size in options.sizes.split(",")]
    if hard != resource.RLIM_INFINITY and hard < max(sizes) + _OTHER_FILES:
        sys.exit(f"{max(sizes):,} hosts need {max(sizes) + _OTHER_FILES:,} open files; ulimit -Hn says {hard:,}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    measured = []
    for size in sizes:
        measured.append(asyncio.run(measure(size, steady=options.steady, changes=options.changes)))
        last = measured[-1]
        print(f"{size:,} hosts measured: {last.snapshot}, {last.listing}, {last.ended}, {last.warnings}", flush=True)
    _table(measured)


if __name__ == "__main__":
    main()
