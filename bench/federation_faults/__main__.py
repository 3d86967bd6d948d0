"""bench/federation_faults: three paired clusters under faults that follow from a seed, judged by what each shows of
the others and by what became of all that was sent and claimed across.

    python -m bench.federation_faults [--seeds 20] [--first 1] [--state FILE] [--seed N] [--keeping-ghosts]

A with B and B with C, each with a PostgreSQL of its own, every program on a machine of its own. `--state` keeps what
came of each seed, so that a run which was broken off goes on; `--seed N` runs one seed again. `--keeping-ghosts` lets
registers drop no row of a peer: the checker has to object. Needs root and iproute2.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

from bench.faults.machine import missing, run
from bench.faults.telling import known, line, passed, table
from bench.federation_faults.options import Options
from bench.federation_faults.schedule import KINDS
from tests.support.checkout import ROOT

PROGRAM = "bench.federation_faults.seed"


def main() -> None:
    """Run the seeds that are not known yet, and print one table of all."""
    parser = argparse.ArgumentParser(description="Three clusters under faults.")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--seed", type=int, help="this one alone, again")
    parser.add_argument("--state", type=Path, help="a file that keeps what came of each seed")
    parser.add_argument("--window", type=float, default=Options.window, help="seconds in which faults happen")
    parser.add_argument("--faults", type=int, default=Options.faults)
    parser.add_argument("--converge-seconds", type=float, default=Options.converge_seconds)
    parser.add_argument("--keeping-ghosts", action="store_true")
    options = parser.parse_args()
    os.chdir(ROOT)
    if why := missing(clocks=False):
        sys.exit(f"bench.federation_faults cannot run here: {why}")
    state = options.state if options.seed is None else None
    verdicts = known(state)
    seeds = [options.seed] if options.seed is not None else range(options.first, options.first + options.seeds)
    for seed in seeds:
        if seed in verdicts:
            continue
        verdicts[seed] = run(
            Options(
                seed,
                window=options.window,
                faults=options.faults,
                converge_seconds=options.converge_seconds,
                keeping_ghosts=options.keeping_ghosts,
            ),
            program=PROGRAM,
        )
        print(line(verdicts[seed]), flush=True)
        if options.seed is not None:
            print("\n".join(verdicts[seed].faults))
        elif state is not None and not verdicts[seed].gave_up:  # else it is run again
            with state.open("a") as file:
                file.write(json.dumps(asdict(verdicts[seed])) + "\n")
    found = [verdicts[seed] for seed in seeds]
    table(found, KINDS)
    sys.exit(not passed(found))


if __name__ == "__main__":
    main()
