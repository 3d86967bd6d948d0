"""Carries out faults, and takes them back."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Sequence

from bench.faults.history import Run
from bench.faults.schedule import HOSTS, Fault
from bench.faults.site import Site

_FILLER = "filler"


async def break_things(site: Site, run: Run, faults: Sequence[Fault], *, window: float) -> None:
    """Carry out all faults in their time; at the end of the window everything is healed."""
    began = time.monotonic()

    async def one(fault: Fault) -> None:
        await asyncio.sleep(max(0.0, began + fault.at - time.monotonic()))
        await _do(site, run, fault)
        await asyncio.sleep(max(0.0, began + fault.until - time.monotonic()))
        await _undo(site, fault)

    async with asyncio.TaskGroup() as tasks:
        for fault in faults:
            tasks.create_task(one(fault))
    await asyncio.sleep(max(0.0, began + window - time.monotonic()))
    heal(site)


async def _do(site: Site, run: Run, fault: Fault) -> None:
    match fault.kind:
        case "kill replica" | "kill host-agent":
            await asyncio.to_thread(site.kept[fault.target].kill, fault.lasting)
        case "pause replica" | "pause host-agent":
            _signal(site, fault.target, signal.SIGSTOP)
        case "kill tmux":
            await asyncio.to_thread(_kill_tmux, site, run, fault.target)
        case "restart database":
            if site.database.runs:
                await site.database.stop(fault.other)
        case "cut machine":
            site.network.cut(fault.target)
        case "cut pair":
            site.network.cut(fault.target, [fault.other])
        case "loss":
            site.network.lose(HOSTS if fault.target == "all hosts" else [fault.target], fault.amount)
        case "delay":
            site.network.delay(fault.target, fault.amount)
        case "full disk":
            await asyncio.to_thread(_fill, site, fault.target)
        case "clock jump":
            site.clocks.set(fault.target, fault.amount)
        case _:
            raise ValueError(fault.kind)


async def _undo(site: Site, fault: Fault) -> None:
    match fault.kind:
        case "pause replica" | "pause host-agent":
            _signal(site, fault.target, signal.SIGCONT)
        case "restart database":
            if not site.database.runs:
                site.database.start()
        case "cut machine":
            site.network.join(fault.target)
        case "cut pair":
            site.network.join(fault.target, [fault.other])
        case "loss":
            site.network.lose(HOSTS if fault.target == "all hosts" else [fault.target], 0.0)
        case "delay":
            site.network.delay(fault.target, 0.0)
        case "full disk":
            _empty(site, fault.target)
        case "clock jump":
            site.clocks.set(fault.target, 0)


def heal(site: Site) -> None:
    """Take back all that may still hold, whatever overlapped."""
    site.network.heal()
    if not site.database.runs:
        site.database.start()
    for name in site.kept:
        _signal(site, name, signal.SIGCONT)
        site.clocks.set(name, 0)
    for host in HOSTS:
        _empty(site, host)


def _signal(site: Site, name: str, number: signal.Signals) -> None:
    program = site.kept[name].program
    if program.runs:
        program.signal(number)


def _kill_tmux(site: Site, run: Run, host: str) -> None:
    pid = site.hosts[host].tmux("display-message", "-p", "#{pid}").strip()
    if not pid:
        return  # there is none at this moment
    for agent, of in site.agents.items():
        if of == host:
            run.seats_killed.setdefault(agent, []).append(time.time())
    with contextlib.suppress(ProcessLookupError):
        os.kill(int(pid), signal.SIGKILL)


def _fill(site: Site, host: str) -> None:
    with (site.hosts[host].program.home / _FILLER).open("ab", buffering=0) as filler, contextlib.suppress(OSError):
        for size in (1 << 20, 4096, 1):
            with contextlib.suppress(OSError):
                while True:
                    filler.write(b"x" * size)


def _empty(site: Site, host: str) -> None:
    (site.hosts[host].program.home / _FILLER).unlink(missing_ok=True)
