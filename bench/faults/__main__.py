"""bench/faults: a fleet of real programs under faults that follow from a seed, judged by what its clients saw.

    python -m bench.faults [--seeds 200] [--first 1] [--state FILE] [--seed N] [--without-fence]

Three replicas, one PostgreSQL and four hosts, each in a network namespace of its own. `--state` keeps what came of
each seed, so that a run which was broken off goes on; `--seed N` runs one seed again and keeps its logs.
`--without-fence` lets the register compare no fence: the checker has to object. Needs root, iproute2 and Debian's
`faketime`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from bench.faults.machine import Verdict, missing, run
from bench.faults.options import Options
from bench.faults.schedule import KINDS
from tests.support.checkout import ROOT

SECONDS_A_SEED = 25.0


def _known(state: Path | None) -> dict[int, Verdict]:
    if state is None or not state.exists():
        return {}
    return {told["seed"]: Verdict(**told) for told in map(json.loads, state.read_text().splitlines())}


def _table(verdicts: list[Verdict]) -> None:
    totals: Counter[str] = Counter()
    for verdict in verdicts:
        totals.update(verdict.counts)
    kinds = Counter(kind for verdict in verdicts for fault in verdict.faults for kind in KINDS if f" {kind} " in fault)
    broken = sum(bool(verdict.violations) for verdict in verdicts)
    unjudged = [verdict for verdict in verdicts if verdict.gave_up]
    print(f"\n{len(verdicts)} seeds: {broken} with violations, {len(unjudged)} without a judgement")
    lasted = sorted(sum(verdict.seconds.values()) for verdict in verdicts if verdict.seconds)
    if lasted:
        print(f"seconds a seed: p50 {lasted[len(lasted) // 2]:.1f}, most {lasted[-1]:.1f} (at most {SECONDS_A_SEED:g})")
        views = sorted(verdict.seconds["converge"] for verdict in verdicts if verdict.seconds)
        print(f"views right after healing, s: p50 {views[len(views) // 2]:.1f}, last {views[-1]:.1f}")
    for name, number in [*sorted(totals.items()), *sorted(kinds.items())]:
        print(f"  {name:<44}{number:>9}")
    for verdict in unjudged:
        print(f"seed {verdict.seed} has no judgement: {verdict.gave_up}")
    for verdict in verdicts:
        for violation in verdict.violations:
            print(f"seed {verdict.seed}: {violation}")


def _line(verdict: Verdict) -> str:
    phases = " ".join(f"{name} {seconds:.1f}" for name, seconds in verdict.seconds.items())
    outcome = f"{len(verdict.violations)} VIOLATIONS, see {verdict.folder}" if verdict.violations else "ok"
    if verdict.gave_up:
        outcome = f"no judgement, see {verdict.folder}"
    return f"seed {verdict.seed}: {outcome} ({phases})"


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
    known = {} if options.seed is not None else _known(options.state)
    seeds = [options.seed] if options.seed is not None else range(options.first, options.first + options.seeds)
    for seed in seeds:
        if seed in known:
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
        known[seed] = verdict
        print(_line(verdict), flush=True)
        if options.seed is not None:
            print("\n".join(verdict.faults))
        elif options.state is not None and not verdict.gave_up:  # else it is run again
            with options.state.open("a") as file:
                file.write(json.dumps(asdict(verdict)) + "\n")
    verdicts = [known[seed] for seed in seeds]
    _table(verdicts)
    sys.exit(any(verdict.violations or verdict.gave_up for verdict in verdicts))


if __name__ == "__main__":
    main()
