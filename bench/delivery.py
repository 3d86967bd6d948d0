"""bench/delivery: what arrives of many sends, how soon, and what is said of it. Four tables:

    .venv/bin/python -m bench.delivery [--sends 10000] [--rounds 40] [--stalls 100] [--each 1000]
        [--only judged|overhead|stalls|senders]

- judged: the sends are spread over the stand-ins (tests/fakes/standins.yaml), with people who type drafts, read the
  scrollback and answer questions, programs that die, and runtimes that tell of their prompts twice and late. Each
  stand-in wrote down itself what it got; every count but those of the ends must be 0.
- overhead: 200 B to an idle agent until submitted, journal fsynced, beside the way that scripts do it (spawn tmux,
  sleep 0.5 s, Enter, sleep 1.2 s).
- stalls: how soon it is told that a program hangs, of many that do.
- senders: one seat, written to in the names of agents on two hosts at once, through the whole mesh.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import random
import statistics
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

import structlog
from mosaic_framework.catalog import Catalog
from mosaic_framework.ids import new_id
from mosaic_framework.runtimes import read_manifest
from mosaic_hostagent.clock import Clock
from mosaic_hostagent.journal import Journal

from tests.support import standins
from tests.support.conformance import Faults, conform, quick_people
from tests.support.hostagent import World, eventually
from tests.support.standins import FAULTS, NAMES, Tally, dispatch
from tests.support.tmux import private_tmux

LIVELY = Faults(drafts=0.2, copy_mode=0.2, deaths=0.05, hooks=True)
PLAIN = Faults(drafts=0.2, copy_mode=0.2, deaths=0.05)
ALONE = Faults()
NOTHING_SEEN = ("echoes-nothing", "wedges")
"""of these nobody can say that a text arrived: each send costs the whole wait, and a few are enough"""
FEW = {"echoes-nothing": 8, "wedges": 8, "dies-to-a-shell": 60, "swallows-enter": 300, "asks-for-permission": 300}


@contextlib.asynccontextmanager
async def a_world() -> AsyncIterator[World]:
    """Lend a host-agent's parts on a tmux and a journal of their own."""
    catalog = Catalog.open()
    with private_tmux() as private, tempfile.TemporaryDirectory(prefix="bench-") as folder:
        for name in ("XDG_RUNTIME_DIR", "TMUX_TMPDIR", "HOME"):
            os.environ[name] = private.environment[name]
        os.environ.pop("TMUX", None)
        journal = await Journal.open(Path(folder) / "journal", Clock())
        world = World(private, journal, Path(folder) / "state", lambda name: read_manifest(catalog, name))
        world.start()
        try:
            yield world
        finally:
            await world.close()
            await journal.close()


def shares(sends: int) -> dict[str, int]:
    """Return how many sends each stand-in gets; together at least `sends`."""
    few = {name: min(FEW[name], max(2, sends // len(NAMES))) for name in FEW}
    many = [name for name in NAMES if name not in few]
    each = -(-max(0, sends - sum(few.values())) // len(many))
    return few | dict.fromkeys(many, each)


async def judged(sends: int, seed: int) -> bool:
    """Print the first table; say whether nothing was false, lost, doubled, altered, destroyed or approved."""
    quick_people()
    total = Tally()
    rows: list[tuple[str, Tally, float]] = []
    waiting = sorted(shares(sends).items(), key=lambda item: item[0] in FEW, reverse=True)
    leaks: list[str] = []

    async def work(world: World) -> None:
        while waiting:
            name, share = waiting.pop(0)
            began = time.perf_counter()
            few = name in NOTHING_SEEN or name == "dies-to-a-shell"
            faults = ALONE if few else random.Random(name).choice((LIVELY, PLAIN))
            tally = await conform(
                world,
                name,
                sends=share,
                seed=seed,
                faults=faults,
                deadline=3.0 if few else 30.0,
                waits=40.0 if few else 60.0,
            )
            rows.append((name, tally, time.perf_counter() - began))

    async with a_world() as world:
        await asyncio.gather(*(work(world) for _ in range(3)))
        leaks = [str(path) for path in world.private.folder.rglob("leaked")]
    print(f"{'stand-in':<26}{'sends':>7}{'claimed':>9}{'unknown':>9}{'not typed':>11}{'faults':>8}{'seconds':>9}")
    for name, tally, seconds in sorted(rows, key=lambda row: NAMES.index(row[0])):
        total += tally
        print(_line(name, tally, seconds))
    print(_line("all", total, sum(seconds for *_, seconds in rows)))
    print("  ".join(f"{name} {len(getattr(total, name))}" for name in FAULTS) + f"  run by a shell {len(leaks)}")
    for name, found in total.faults.items():
        print(f"{name}: {found[:5]}")
    return not total.faults and not leaks


def _line(name: str, tally: Tally, seconds: float) -> str:
    claimed = sum(tally.ends[end] for end in standins.CLAIMS)
    untyped = sum(tally.ends[end] for end in ("expired", "failed", "cancelled"))
    faults = sum(map(len, tally.faults.values()))
    return f"{name:<26}{tally.sent:>7}{claimed:>9}{tally.ends['unknown']:>9}{untyped:>11}{faults:>8}{seconds:>9.1f}"


async def overhead(rounds: int) -> None:
    """Print the second table: milliseconds until submitted, per stand-in."""
    print(f"{'200 B to an idle agent':<26}{'rounds':>7}{'p50 ms':>9}{'p95 ms':>9}{'sleeping / p50':>16}")
    slept = await _sleeping_way()
    quick = [name for name in NAMES if name not in (*NOTHING_SEEN, "dies-to-a-shell", "asks-for-permission")]
    for name in quick:
        async with a_world() as world:
            taken = await _submitted_after(world, name, rounds)
        middle, late = statistics.median(taken), sorted(taken)[int(len(taken) * 0.95)]
        print(f"{name:<26}{rounds:>7}{middle:>9.1f}{late:>9.1f}{slept / middle:>16.0f}")
    print(f"{'the sleeping way':<26}{3:>7}{slept:>9.1f}")


async def stalls(count: int) -> None:
    """Print the third table: seconds until a stall is told."""
    told = sorted(await _stall_told_after(count))
    late = told[min(len(told) - 1, int(len(told) * 0.99))]
    print(f"{'a program hangs':<26}{'stalls':>7}{'p50 s':>9}{'p99 s':>9}{'most s':>9}")
    print(f"{'until that is told':<26}{len(told):>7}{statistics.median(told):>9.2f}{late:>9.2f}{told[-1]:>9.2f}")


async def _submitted_after(world: World, name: str, rounds: int) -> list[float]:
    log = world.private.folder / f"{name}.jsonl"
    seat = world.seat(name, manifest=standins.manifest_of(name), command=standins.command_of(name, log))
    world.add(seat)
    await world.available(name)
    await asyncio.sleep(1.5)  # also past the first second, in which one of them takes no Enter
    taken = []
    for number in range(rounds + 1):
        message_id = str(new_id())
        began = time.perf_counter()
        await world.mailroom.take(dispatch(seat.agent_id, message_id, number + 1, "x" * 200))
        steps = await world.outcomes.ended(message_id, seconds=30)
        taken.append((time.perf_counter() - began) * 1000)
        assert steps[-1] == "submitted", (name, steps)
        await asyncio.sleep(0.15)
    return taken[1:]


async def _sleeping_way() -> float:
    with private_tmux() as private, tempfile.TemporaryDirectory(prefix="bench-") as folder:
        command = standins.command_of("echoes-at-once", Path(folder) / "log")
        private.tmux("-f", "/dev/null", "new-session", "-d", "-s", "x", "-x", "200", "-y", "50", *command)
        await asyncio.sleep(0.5)
        taken = []
        for number in range(3):
            mark = f"m{number}"
            began = time.perf_counter()
            await asyncio.to_thread(private.tmux, "send-keys", "-t", "=x:", "-l", mark + "x" * 200)
            await asyncio.sleep(0.5)
            await asyncio.to_thread(private.tmux, "send-keys", "-t", "=x:", "Enter")
            await asyncio.sleep(1.2)
            assert mark in await asyncio.to_thread(private.tmux, "capture-pane", "-p", "-t", "=x:")
            taken.append((time.perf_counter() - began) * 1000)
    return statistics.median(taken)


async def _stall_told_after(count: int) -> list[float]:
    """Send to programs that hang, each a seat of its own; return the seconds until that was told of each message."""
    async with a_world() as world:
        told: list[float] = []

        async def one(number: int) -> None:
            name = f"hangs{number}"
            log = world.private.folder / f"{name}.jsonl"
            command = standins.command_of("wedges", log, wedge_after=1)
            seat = world.seat(name, manifest=standins.manifest_of("wedges"), command=command)
            world.add(seat)
            await world.available(name)
            first, second = str(new_id()), str(new_id())
            await world.mailroom.take(dispatch(seat.agent_id, first, 1, "hello"))
            await world.outcomes.ended(first, seconds=30)
            began = time.perf_counter()
            await world.mailroom.take(dispatch(seat.agent_id, second, 2, "x" * 200))
            await eventually(lambda: any("stalled" in why for why in world.waits.get(second, [])), "it is told")
            told.append(time.perf_counter() - began)

        for start in range(0, count, 5):
            await asyncio.gather(*(one(number) for number in range(start, min(start + 5, count))))
    return told


async def senders(each: int) -> bool:
    """Print the fourth table; say whether the order of each sender was kept and nothing was mixed."""
    from bench.delivery_senders import two_senders

    return await two_senders(each)


def main() -> None:
    """Print the tables; exit 1 when the judge found a fault."""
    parser = argparse.ArgumentParser(description="Delivery: what arrives, how soon, and what is said of it.")
    parser.add_argument("--sends", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--stalls", type=int, default=100)
    parser.add_argument("--each", type=int, default=1_000, help="messages of each of the two senders")
    parser.add_argument("--only", choices=("judged", "overhead", "stalls", "senders"))
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    done = True
    if options.only in (None, "overhead"):
        asyncio.run(overhead(options.rounds))
    if options.only in (None, "stalls"):
        asyncio.run(stalls(options.stalls))
    if options.only in (None, "judged"):
        print(f"seed {options.seed}")
        done = asyncio.run(judged(options.sends, options.seed)) and done
    if options.only in (None, "senders"):
        done = asyncio.run(senders(options.each)) and done
    raise SystemExit(0 if done else 1)


if __name__ == "__main__":
    subprocess.run(["tmux", "-V"], check=True, stdout=subprocess.DEVNULL)
    main()
