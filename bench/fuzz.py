"""bench/fuzz: 10,000 malformed requests at each listener, and what they leave behind.

    .venv/bin/python -m bench.fuzz [--count 10000] [--seed 1]

Requests are made from the contract's descriptors: every method, by every kind of caller, with values at the edge, wrong
types, cut short, nested too deep, in huge texts; below gRPC: random bytes, halves of TLS handshakes, broken HTTP/2.
`faults` are calls that ended as INTERNAL or UNKNOWN, or that told their caller of a traceback: there must be none.
`MiB`, `files` and `tasks` are what the program that listens uses more after all of them than after a tenth of them. One
file or task more for every 1,000 requests is a leak, and fails; memory is printed: a replica lets go of what refused
calls leave in circles when it has grown by half, so that one run says little of it.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from collections.abc import Awaitable, Callable

from bench.send import durable_register
from tests.support.fuzzing import Fuzzed, Outcomes, Size, fuzzed_mesh, settled
from tests.support.program import Program

MIB = 1024 * 1024
WAY = Callable[[random.Random, int], Awaitable[Outcomes]]


async def row(name: str, program: Program, way: WAY, *, count: int, seed: int) -> bool:
    """Print one listener's row; returns whether it was without a fault."""
    source = random.Random(f"{seed}-{name}")
    began = time.monotonic()
    first = await way(source, count // 10)
    before = await settled(program)
    rest = await way(source, count - count // 10)
    after = await settled(program)
    faults = first.faults + rest.faults
    codes = (first.codes + rest.codes).most_common(6)
    print(
        f"{name:<18}{first.made + rest.made:>7}{len(faults):>8}{_grown(before, after)}"
        f"{time.monotonic() - began:>8.0f}  {', '.join(f'{code} {number}' for code, number in codes)}",
        flush=True,
    )
    most = (rest.made + 999) // 1000
    if after.files - before.files > most or after.tasks - before.tasks > most:
        faults.append(f"a leak: more than {most} files or tasks are left by {rest.made} requests")
    for fault in faults[:20]:
        print(f"  {fault}", file=sys.stderr)
    return not faults and program.runs


def _grown(before: Size, after: Size) -> str:
    grown = (after.rss - before.rss) / MIB
    return f"{grown:>+8.1f}{after.files - before.files:>+7}{after.tasks - before.tasks:>+7}"


async def run(count: int, seed: int) -> bool:
    """Fuzz every listener; returns whether all went well."""
    print(f"{'listener':<18}{'made':>7}{'faults':>8}{'MiB':>8}{'files':>7}{'tasks':>7}{'s':>8}  how they ended")
    with durable_register() as (_, url):
        async with fuzzed_mesh(url) as fuzzed:
            good = [await row(*one, count=count, seed=seed) for one in listeners(fuzzed)]
            await fuzzed.honest_work()
    return all(good)


def listeners(fuzzed: Fuzzed) -> list[tuple[str, Program, WAY]]:
    """Every way in, with the program behind it."""
    control, agent = fuzzed.mesh.controlplane, fuzzed.honest.program
    return [
        ("enrolment", control, fuzzed.enrolment),
        ("enrolment, raw", control, lambda source, count: fuzzed.raw(source, count, fuzzed.enrol_address)),
        ("fleet", control, fuzzed.fleet),
        ("fleet, raw", control, lambda source, count: fuzzed.raw(source, count, fuzzed.fleet_address)),
        ("peers", control, fuzzed.peer),
        ("peers, raw", control, lambda source, count: fuzzed.raw(source, count, fuzzed.peer_address)),
        ("pane", agent, fuzzed.pane),
        ("pane, raw", agent, lambda source, count: fuzzed.raw(source, count, fuzzed.pane_address)),
        ("reports of hooks", agent, fuzzed.reports),
    ]


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if not asyncio.run(run(options.count, options.seed)):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
