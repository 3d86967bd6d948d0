"""One seed, inside the machine that machine.py makes for it: start a fleet, break it, heal it, look, and judge.

    python -m bench.faults.seed FOLDER OPTIONS(JSON)

Writes FOLDER/verdict.json. The faults and what clients choose to do follow from the seed; which of them meet does not
quite, since processes and networks take their own time.
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
import sys
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import asyncpg
import grpc.aio

from bench.faults.breaking import break_things
from bench.faults.checker import violations
from bench.faults.clients import Client, open_channel
from bench.faults.history import Run
from bench.faults.looking_back import look_back, open_messages
from bench.faults.options import Options
from bench.faults.schedule import REPLICAS, schedule
from bench.faults.senders import send_messages, type_commands
from bench.faults.site import Site
from bench.faults.views import Watcher, converge
from bench.faults.workers import Worker, make_cards, work_by_calls, work_on_a_stream
from tests.support.backlog_simulation import TAKE_THE_FENCE_OUT

SETTLE_SECONDS = 30.0
LAST_WORDS_SECONDS = 6.0


async def run_seed(folder: Path, options: Options) -> dict[str, object]:
    """Return the verdict of one seed."""
    times: dict[str, float] = {}
    last = time.monotonic()

    def lap(name: str) -> None:
        nonlocal last
        times[name], last = time.monotonic() - last, time.monotonic()

    run, chance = Run(), random.Random(options.seed)
    site = Site(folder)
    await site.open()
    if options.without_fence:
        await _take_the_fence_out(site)
    lap("start")

    faults = schedule(options.seed, window=options.window, faults=options.faults)
    clients = [
        Client(name, site.operator, site.addresses, run, random.Random(chance.random()))
        for name in (
            "sender1",
            "sender2",
            "maker",
            "caller1",
            "caller2",
            "caller3",
            "caller4",
            "streamer1",
            "streamer2",
        )
    ]
    workers = [Worker(client) for client in clients[3:]]
    made: list[str] = []
    over = asyncio.Event()
    watchers = [Watcher(f"watch {name}", site.operator, at) for name, at in zip(REPLICAS, site.addresses, strict=True)]
    keeping = [asyncio.create_task(site.keep()), *(asyncio.create_task(watcher.run()) for watcher in watchers)]
    working = [
        *(asyncio.create_task(send_messages(site, client)) for client in clients[:2]),
        asyncio.create_task(type_commands(site, run, random.Random(chance.random()), over)),
        asyncio.create_task(make_cards(clients[2], made)),
        *(asyncio.create_task(work_by_calls(worker)) for worker in workers[:4]),
        *(asyncio.create_task(work_on_a_stream(worker)) for worker in workers[4:]),
    ]
    await break_things(site, run, faults, window=options.window)
    await site.until_up()
    healed_at = time.monotonic()
    lap("faults")
    run.views = await converge(site, watchers, healed_at)
    lap("converge")
    over.set()
    for client in clients:
        client.over.set()
    _, late = await asyncio.wait(working, timeout=LAST_WORDS_SECONDS)
    for task in late:
        task.cancel()
    for outcome in await asyncio.gather(*working, return_exceptions=True):
        if isinstance(outcome, Exception):
            raise outcome
    async with open_channel(site.operator, site.addresses[0]) as channel:
        await _settle(site, channel)
        await look_back(site, channel, run, {worker.client.name: worker.id for worker in workers})
    lap("settle")
    for task in keeping:
        task.cancel()
    return {
        "seed": options.seed,
        "violations": violations(run, converge_seconds=options.converge_seconds),
        "faults": [str(fault) for fault in faults],
        "seconds": times,
        "counts": _counts(run, site, watchers),
        "writes": [asdict(write) for write in run.writes],
    }


async def _settle(site: Site, channel: grpc.aio.Channel) -> None:
    """Wait until every message has come to an end; what has not is the checker's to tell."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while await open_messages(channel):
        if time.monotonic() > deadline:
            for kept in site.kept.values():  # into their logs: what each task of theirs waits for
                if kept.program.runs:
                    kept.program.signal(signal.SIGUSR2)
            await asyncio.sleep(1.0)
            return
        await asyncio.sleep(0.1)


async def _take_the_fence_out(site: Site) -> None:
    """Let the register refuse no write for its fence or its holder. The product has no switch for it."""
    connection = await asyncpg.connect(site.database.url())
    try:
        await connection.execute(TAKE_THE_FENCE_OUT)
    finally:
        await connection.close()


def _counts(run: Run, site: Site, watchers: list[Watcher]) -> dict[str, int]:
    steps = Counter(receipt.step for receipt in run.received.values())
    outcomes = Counter(write.outcome for write in run.writes)
    return {
        "messages": len(run.sent),
        "arrived": sum(map(len, run.executed.values())),
        **{f"receipt {step}": number for step, number in steps.items()},
        "writes": len(run.writes),
        **{f"writes {outcome}": number for outcome, number in outcomes.items()},
        "repeats": sum(write.attempts - 1 + len(write.answers[1:]) for write in run.writes),
        "claims": len(run.holdings),
        "completions": len(run.completed),
        "refused completions": sum(write.kind == "complete" and write.outcome == "fail" for write in run.writes),
        "watches resumed": sum(watcher.resumed for watcher in watchers),
        "programs that ended by themselves": sum(kept.ended_by_itself for kept in site.kept.values()),
    }


def main() -> None:
    """Run it; the machine ends with this process."""
    folder, options = Path(sys.argv[1]), Options(**json.loads(sys.argv[2]))
    verdict = asyncio.run(run_seed(folder, options))
    staging = folder / "verdict.new"
    staging.write_text(json.dumps(verdict, indent=1))
    staging.replace(folder / "verdict.json")


if __name__ == "__main__":
    main()
