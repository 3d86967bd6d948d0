"""bench/seats: many seats on one host, and a storm of deaths, under each supervision in one run.

    .venv/bin/python -m bench.seats [--seats 100] [--kills 30] [--idle 20]

Starts all seats (shells), lets them idle, then kills -9 the programs of some at once and watches the register: when
each death is shown, and when each seat is available again. The restart policy's first pause is 1 s. CPU is of one core.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import time

from mosaic_framework import units

from bench.send import durable_register
from tests.support.checkout import ROOT
from tests.support.mesh import running_mesh
from tests.support.storm import Usage, host_agent, host_under, start_all, storm, tmux_server, waiters
from tests.support.user_systemd import missing


async def measure(url: str, supervision: str, *, seats: int, kills: int, idle: float) -> dict[str, str]:
    """Return the column of one supervision: row → figure."""
    async with running_mesh(url) as mesh, host_under(mesh, supervision) as host:
        started = await start_all(mesh, host, seats)
        agent, server = host_agent(host), tmux_server(host)
        await asyncio.sleep(3.0)  # the last screens settle
        quiet = Usage.of([agent]), Usage.of([server])
        await asyncio.sleep(idle)
        rested = Usage.of([agent]), Usage.of([server])
        began = time.monotonic()
        found = await storm(mesh, kills)
        lasted = time.monotonic() - began
        stormed = Usage.of([agent])
        keeping = waiters(host.program.home)
        kept = Usage.of(keeping)
        seen, back = sorted(found.seen.values()), sorted(found.back.values())
        return {
            f"start {seats} seats until available, s": f"{started:.1f}",
            f"{kills} deaths shown in the register: p50 / last, ms": _both(seen, 1000),
            f"{kills} seats available again: p50 / last, s": _both(back, 1),
            "host-agent: memory of its own, MB": f"{stormed.memory / 1e6:.0f}",
            "host-agent: CPU while idle, %": f"{(rested[0].cpu - quiet[0].cpu) / idle * 100:.1f}",
            "host-agent: CPU during the storm, %": f"{(stormed.cpu - rested[0].cpu) / lasted * 100:.0f}",
            "tmux server: CPU while idle, %": f"{(rested[1].cpu - quiet[1].cpu) / idle * 100:.1f}",
            "waiters and holder: processes": str(len(keeping)),
            "waiters and holder: memory of their own, MB": f"{kept.memory / 1e6:.0f}",
        }


def _both(values: list[float], scale: float) -> str:
    digits = 0 if scale > 1 else 1
    return f"{statistics.median(values) * scale:.{digits}f} / {values[-1] * scale:.{digits}f}"


async def run(*, seats: int, kills: int, idle: float) -> None:
    columns: dict[str, dict[str, str]] = {}
    for supervision in (units.BUILT_IN, units.SYSTEMD):
        if supervision == units.SYSTEMD and (reason := missing()):
            print(f"systemd is left out: {reason}")
            continue
        with durable_register() as (_folder, url):
            columns[supervision] = await measure(url, supervision, seats=seats, kills=kills, idle=idle)
    rows = list(next(iter(columns.values())))
    width = max(map(len, rows))
    print(f"{seats} seats, {kills} killed".ljust(width) + "".join(f"{name:>16}" for name in columns))
    for row in rows:
        print(row.ljust(width) + "".join(f"{column[row]:>16}" for column in columns.values()))


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description="Many seats on one host, and a storm of deaths.")
    parser.add_argument("--seats", type=int, default=100)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--idle", type=float, default=20.0)
    options = parser.parse_args()
    os.chdir(ROOT)
    asyncio.run(run(seats=options.seats, kills=options.kills, idle=options.idle))


if __name__ == "__main__":
    main()
