"""bench/backlog: what a claim costs as the backlog grows, and how much work it moves, beside peers, in one run.

    .venv/bin/python -m bench.backlog [--sizes 1000,10000,100000,1000000] [--short] [--only TABLE] [--no-peers]

On a PostgreSQL of its own with fsync on. Four tables:

- latency: p50 and p99 of a claim and of a completion, in four shapes, without and with a transaction held open long,
  beside the plain algorithm (`NOT EXISTS` over a jsonb array, `FOR UPDATE SKIP LOCKED LIMIT 1`).
- throughput: claims and completions a second by 1, 8 and 64 workers, beside procrastinate and pgqueuer.
- work streams: the same through a control plane process, gRPC and mTLS, done and next in one message.
- waiting: from the call that makes a card to the answer of a waiting `claim --wait`, beside the peers' idle workers.

`--steps N` runs the simulation of tests/support/backlog_simulation.py for N steps instead, and ends with 1 when its
history checker objects. `--short` takes two minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys

import structlog
from mosaic_controlplane.register.database import Database
from mosaic_controlplane.register.postgres_cluster import Cluster
from mosaic_framework.ids import new_id

from bench.backlog_parts import latency, throughput
from bench.backlog_parts.databases import durable_server, fresh
from bench.backlog_parts.shapes import SHAPES
from tests.support.backlog import open_yards
from tests.support.backlog_simulation import Simulation
from tests.support.checkout import ROOT

PLAIN_LIMIT = 100_000  # beyond it a blocked prefix takes the plain algorithm seconds a claim
AIM_GROWTH = 1.5
SESSIONS = 24
STEPS_A_ROUND = 20_000


async def latencies(cluster: Cluster, sizes: list[int], *, rounds: int, before: int) -> None:
    """Print the table of latencies."""
    print("\nlatency, ms: p50 / p99 of a claim and of a completion; 'held': under an old snapshot, after more work")
    titles = ("claim", "complete", "claim held", "complete held")
    print(f"{'shape':<16}{'cards':>9}{''.join(f'{title:>15}' for title in titles)}{'plain claim':>17}")
    for shape in SHAPES:
        first: list[float] = []
        for size in sizes:
            free, held = await latency.ours(cluster, shape, size, rounds=rounds, before=before)
            columns = [free.claims, free.completions, held.claims, held.completions]
            middles = [latency.quantile(times, 0.5) for times in columns]
            first = first or middles
            cells = "".join(
                f"{f'{middle:.2f} / {latency.quantile(times, 0.99):.2f}':>15}"
                for middle, times in zip(middles, columns, strict=True)
            )
            beside = f"{'-':>17}"
            if size <= PLAIN_LIMIT:
                slow = await latency.plain(cluster, shape, size, rounds=rounds, tenant_id=new_id())
                both = f"{latency.quantile(slow.claims, 0.5):.2f} / {latency.quantile(slow.claims, 0.99):.2f}"
                beside = f"{both:>17}"
            print(f"{shape.name:<16}{size:>9,}{cells}{beside}", flush=True)
        growth = ", ".join(f"{last / begin:.2f}" for last, begin in zip(middles, first, strict=True))
        print(f"{'':<16}{'growth':>9}  {growth} (aim: at most {AIM_GROWTH})", flush=True)


async def throughputs(cluster: Cluster, *, jobs: int, peers: bool) -> dict[tuple[str, int], float]:
    """Print the table of throughputs, and return it."""
    print(f"\nthroughput: claimed and completed a second, {jobs:,} cards")
    print(f"{'':<36}{'1 worker':>12}{'8 workers':>12}{'64 workers':>12}")
    found: dict[tuple[str, int], float] = {}
    ways: list[tuple[str, str]] = [("backlog, done and next in one call", ""), ("backlog, two calls", "")]
    if peers:
        ways += [("procrastinate", "throughput"), ("pgqueuer", "throughput"), ("pgqueuer, batches of 10", "batched")]
    for name, what in ways:
        for workers in (1, 8, 64):
            some = jobs if workers > 1 else jobs // 4
            if not what:
                one_call = "one call" in name
                rate = await throughput.in_process(cluster, jobs=some, workers=workers, one_call=one_call)
            else:
                rate = await throughput.peer(cluster, name.partition(",")[0], what, some, workers)
            found[name, workers] = rate
        print(f"{name:<36}" + "".join(f"{found[name, workers]:>12,.0f}" for workers in (1, 8, 64)), flush=True)
    for agents in (8, 64):
        found["streams", agents] = await throughput.streamed(cluster, jobs=jobs, agents=agents)
    rates = [f"{found['streams', agents]:>12,.0f}" for agents in (8, 64)]
    print(f"{'backlog, work streams over mTLS':<36}{'-':>12}{''.join(rates)}", flush=True)
    if peers:
        base = {workers: found["procrastinate", workers] for workers in (8, 64)}
        times = found["backlog, done and next in one call", 8] / base[8]
        print(f"in process with 8 / procrastinate: {times:.1f} (aim: at least 8)")
        for agents, aim in ((8, 2.5), (64, 5.0)):
            times = found["streams", agents] / base[agents]
            print(f"streams with {agents} / procrastinate: {times:.1f} (aim: at least {aim})")
    return found


async def waits(cluster: Cluster, *, rounds: int, peers: bool) -> None:
    """Print the table of waiting."""
    print("\nwaiting: from the call that makes it to its start elsewhere, p50 ms, idle")
    ours = await throughput.wait_latency(cluster, rounds=rounds)
    print(f"{'backlog, claim --wait over mTLS':<36}{ours:>12.1f} (aim: under 10)", flush=True)
    if peers:
        for name in throughput.PEERS:
            theirs = await throughput.peer(cluster, name, "latency", rounds)
            print(f"{name:<36}{theirs:>12.1f}   backlog / {name}: {ours / theirs:.1f}", flush=True)


async def simulate(cluster: Cluster, *, steps: int, seed: int) -> int:
    """Run the simulation for `steps` steps, a fresh register every so many; returns 1 when a promise was broken."""
    done = 0
    while done < steps:
        database = await Database.connect(await fresh(cluster, "simulation"), pool_size=16)
        try:
            async with open_yards(database, replicas=3) as yards:
                simulation = Simulation(yards, seed=seed + done, sessions=SESSIONS)
                await simulation.watch()
                await simulation.run(min(STEPS_A_ROUND, steps - done))
                await simulation.drain()
                broken = await simulation.violations()
                left = await database.pool.fetchval("select count(*) from fleet.card where status <> 'done'")
        finally:
            await database.close()
        done += simulation.steps
        faults = f"{simulation.killed:,} clients killed, {simulation.cuts:,} connections cut"
        told = f"{faults}, {len(broken)} violations, {left} forgotten"
        print(f"{done:>10,} steps, {told}", flush=True)
        if broken or left:
            print("\n".join([f"seed {seed + done - simulation.steps}:", *broken[:20]]))
            return 1
    return 0


async def run(options: argparse.Namespace) -> int:
    sizes = [int(size) for size in options.sizes.split(",")]
    with durable_server() as cluster:
        if options.steps:
            return await simulate(cluster, steps=options.steps, seed=options.seed)
        if options.only in ("", "latency"):
            await latencies(cluster, sizes, rounds=options.rounds, before=options.before)
        if options.only in ("", "throughput"):
            await throughputs(cluster, jobs=options.jobs, peers=options.peers)
        if options.only in ("", "waiting"):
            await waits(cluster, rounds=min(options.rounds, 100), peers=options.peers)
    return 0


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description="What a claim costs, and how much work the backlog moves.")
    parser.add_argument("--sizes", default="1000,10000,100000,1000000", help="cards, for the table of latencies")
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--before", type=int, default=2000, help="cards worked off before each measurement")
    parser.add_argument("--jobs", type=int, default=8000)
    parser.add_argument("--peers", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--only", default="", choices=["", "latency", "throughput", "waiting"], help="one table")
    parser.add_argument("--short", action="store_true", help="small sizes: two minutes")
    parser.add_argument("--steps", type=int, default=0, help="run the simulation for so many steps instead")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if options.short:
        options.sizes, options.rounds, options.before, options.jobs = "1000,10000", 100, 300, 2000
    os.chdir(ROOT)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    sys.exit(asyncio.run(run(options)))


if __name__ == "__main__":
    main()
