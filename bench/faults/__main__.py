"""bench/faults: a fleet of real programs under faults that follow from a seed, judged by what its clients saw.

    python -m bench.faults [--seeds 200] [--first 1] [--state FILE] [--seed N] [--without-fence]

Three replicas, one PostgreSQL and four hosts, each in a network namespace of its own. `--state` keeps what came of
each seed, so that a run which was broken off goes on; `--seed N` runs one seed again and keeps its logs.
`--without-fence` lets the register compare no fence: the checker has to object. Needs root, iproute2 and Debian's
`faketime`. It ends with 1 when something was found wrong or could not be judged, or when half of the seeds took longer
than 25 s; one that did is told.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

from bench.faults.machine import missing, run
from bench.faults.options import Options
from bench.faults.schedule import KINDS
from bench.faults.telling import known, line, passed, table
from tests.support.checkout import ROOT

SECONDS_A_SEED = 25.0
"""What a seed may take by the wall's clock, with faults for as long as by default."""


def main() -> None:
    """Run the seeds that are not known yet, and print one table of all."""
    parser = argparse.ArgumentParser(description="A fleet under faults.")
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--seed", type=int, help="this one alone, again")
    parser.add_argument("--state", type=Path, help="a file that keeps what came of each seed")
    parser.add_argument("--window", type=float, default=Options.window, help="seconds in which faults happen")
    parser.add_argument("--faults", type=int, default=Options.faults)
    parser.add_argument(
        "--converge-seconds",
        type=float,
        default=Options.converge_seconds,
        help="how soon after healing each view has to be right; more on a machine that has other work",
    )
    parser.add_argument("--without-fence", action="store_true")
    options = parser.parse_args()
    os.chdir(ROOT)
    if why := missing():
        sys.exit(f"bench.faults cannot run here: {why}")
    at_most = SECONDS_A_SEED + max(0.0, options.window - Options.window)
    verdicts = known(options.state if options.seed is None else None)
    seeds = [options.seed] if options.seed is not None else range(options.first, options.first + options.seeds)
    for seed in seeds:
        if seed in verdicts:
            continue
        verdict = run(
            Options(
                seed,
                window=options.window,
                faults=options.faults,
                converge_seconds=options.converge_seconds,
                without_fence=options.without_fence,
            )
        )
        verdicts[seed] = verdict
        print(line(verdict, at_most=at_most), flush=True)
        if options.seed is not None:
            print("\n".join(verdict.faults))
        elif options.state is not None and not verdict.gave_up:  # else it is run again
            with options.state.open("a") as file:
                file.write(json.dumps(asdict(verdict)) + "\n")
    found = [verdicts[seed] for seed in seeds]
    table(found, KINDS, at_most=at_most)
    sys.exit(not passed(found, at_most=at_most))


if __name__ == "__main__":
    main()
