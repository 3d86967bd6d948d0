"""One seed, inside the machine that bench/faults/machine.py makes for it: pair three clusters, break them, heal them,
look, and judge.

    python -m bench.federation_faults.seed FOLDER OPTIONS(JSON)

Writes FOLDER/verdict.json.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from bench.faults.clients import Client
from bench.faults.workers import Worker, work_by_calls
from bench.federation_faults.breaking import Breaking
from bench.federation_faults.checker import violations
from bench.federation_faults.history import AcrossRun
from bench.federation_faults.layout import CLAIMS, REPLICAS
from bench.federation_faults.looking_back import look_back, settle
from bench.federation_faults.options import Options
from bench.federation_faults.owners import Played
from bench.federation_faults.schedule import schedule
from bench.federation_faults.senders import make_cards, send_across
from bench.federation_faults.site import Site
from bench.federation_faults.views import PeerWatcher, converge, sample, watchers

LAST_WORDS_SECONDS = 6.0
WORKERS_A_PEER = 3


async def run_seed(folder: Path, options: Options) -> dict[str, object]:
    """Return the verdict of one seed."""
    times: dict[str, float] = {}
    last = time.monotonic()

    def lap(name: str) -> None:
        nonlocal last
        times[name], last = time.monotonic() - last, time.monotonic()

    run, chance = AcrossRun(), random.Random(options.seed)
    site = Site(folder)
    await site.open(keeping_ghosts=options.keeping_ghosts)
    played = [Played(cluster, random.Random(chance.random())) for cluster in site.clusters.values()]
    await asyncio.gather(*(one.begin() for one in played))
    watching = watchers(site)
    keeping = [asyncio.create_task(one) for one in (site.keep(), sample(site, run), *(one.run() for one in watching))]
    lap("start")

    faults = schedule(options.seed, window=options.window, faults=options.faults)
    breaking = Breaking(site, run, random.Random(chance.random()))

    def client(name: str, cluster: str) -> Client:
        of = site.clusters[cluster]
        return Client(name, of.operator, of.addresses, run, random.Random(chance.random()))

    senders = {name: client(f"{name}-sender", name) for name in REPLICAS}
    maker = client("b-maker", "b")
    workers = [
        Worker(client(f"{peer}-worker{number}", peer), cluster="b")
        for peer in CLAIMS
        for number in range(WORKERS_A_PEER)
    ]
    workers.append(Worker(client("b-worker", "b")))
    still = asyncio.Event()
    changing = [asyncio.create_task(one.change(still)) for one in played]
    working = [
        *(asyncio.create_task(send_across(site, sender, run, name)) for name, sender in senders.items()),
        asyncio.create_task(make_cards(maker, site)),
        *(asyncio.create_task(work_by_calls(worker)) for worker in workers),
    ]
    await breaking.run(faults, window=options.window)
    still.set()
    for sender in senders.values():
        sender.over.set()
    await asyncio.gather(*changing)
    await asyncio.gather(*(cluster.until_up() for cluster in site.clusters.values()))
    await asyncio.gather(*(one.last() for one in played))
    healed_at = time.monotonic()
    lap("faults")
    run.views = await converge(site, watching, healed_at)
    lap("converge")
    for one in (maker, *(worker.client for worker in workers)):
        one.over.set()
    _, late = await asyncio.wait(working, timeout=LAST_WORDS_SECONDS)
    for task in late:
        task.cancel()
    for outcome in await asyncio.gather(*working, return_exceptions=True):
        if isinstance(outcome, Exception):
            raise outcome
    await settle(site, run)
    await look_back(site, run)
    lap("settle")
    run.views_at_rest = await converge(site, watching, time.monotonic())
    for task in keeping:
        if task.done():
            task.result()
        task.cancel()
    return {
        "seed": options.seed,
        "violations": violations(run, converge_seconds=options.converge_seconds),
        "faults": [str(fault) for fault in faults],
        "seconds": times,
        "counts": _counts(run, site, played, watching, breaking),
        "run": _told(run),
    }


def _told(run: AcrossRun) -> dict[str, object]:
    return {
        "put back": [asdict(one) for one in run.put_back],
        "across": [asdict(one) for one in run.across],
        "writes": [asdict(one) for one in run.writes],
        "holdings": [asdict(one) for one in run.holdings],
        "steps": run.steps,
    }


def _counts(
    run: AcrossRun, site: Site, played: list[Played], watching: list[PeerWatcher], breaking: Breaking
) -> dict[str, int]:
    outcomes = Counter(f"sends {one.outcome}" for one in run.across)
    return {
        "changes at owners": sum(one.changes for one in played),
        "sends across": len(run.across),
        **outcomes,
        "carried out": sum(map(len, run.executed.values())),
        "claims": len(run.holdings),
        "completions": len(run.completed),
        "repeats": sum(write.attempts - 1 + len(write.answers[1:]) for write in run.writes),
        "registers put back": len(run.put_back),
        "watches resumed": sum(one.resumed for one in watching),
        "watches listed anew": sum(one.listed_anew for one in watching),
        "rows seen": sum(len(one) for one in run.shown.values()),
        "faults that could not be done": breaking.skipped,
        "programs that ended by themselves": sum(
            kept.ended_by_itself for cluster in site.clusters.values() for kept in cluster.kept.values()
        ),
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
