"""What came of seeds: kept in a file, and told as a line each and one table of all."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from bench.faults.machine import Verdict


def known(state: Path | None) -> dict[int, Verdict]:
    """Return what a file of verdicts says, by seed."""
    if state is None or not state.exists():
        return {}
    return {told["seed"]: Verdict(**told) for told in map(json.loads, state.read_text().splitlines())}


def passed(verdicts: Sequence[Verdict], *, at_most: float = math.inf) -> bool:
    """Whether every seed was judged and none found wrong, and half of them took no longer than `at_most` seconds.

    One seed that takes longer is told, and fails nothing: the machine may have had other work.
    """
    judged = not any(verdict.violations or verdict.gave_up for verdict in verdicts)
    lasted = sorted(verdict.lasted for verdict in verdicts if verdict.seconds)
    return judged and (not lasted or lasted[len(lasted) // 2] <= at_most)


def table(verdicts: Sequence[Verdict], kinds_known: Iterable[str], *, at_most: float = math.inf) -> None:
    """Print what came of all. `at_most`: the seconds that a seed may take; each that took more is told."""
    totals: Counter[str] = Counter()
    for verdict in verdicts:
        totals.update(verdict.counts)
    kinds = Counter(
        kind for verdict in verdicts for fault in verdict.faults for kind in kinds_known if f" {kind} " in fault
    )
    broken = sum(bool(verdict.violations) for verdict in verdicts)
    unjudged = [verdict for verdict in verdicts if verdict.gave_up]
    late = [verdict for verdict in verdicts if verdict.lasted > at_most]
    outcome = f"{broken} with violations, {len(unjudged)} without a judgement"
    bound = ""
    if at_most < math.inf:
        outcome += f", {len(late)} too long"
        bound = f" (at most {at_most:g})"
    print(f"\n{len(verdicts)} seeds: {outcome}")
    lasted = sorted(verdict.lasted for verdict in verdicts if verdict.seconds)
    if lasted:
        print(f"seconds a seed: p50 {lasted[len(lasted) // 2]:.1f}, most {lasted[-1]:.1f}{bound}")
        views = sorted(verdict.seconds["converge"] for verdict in verdicts if verdict.seconds)
        print(f"views right after healing, s: p50 {views[len(views) // 2]:.1f}, last {views[-1]:.1f}")
    for name, number in [*sorted(totals.items()), *sorted(kinds.items())]:
        print(f"  {name:<44}{number:>9}")
    for verdict in unjudged:
        print(f"seed {verdict.seed} has no judgement: {verdict.gave_up}")
    for verdict in late:
        print(f"seed {verdict.seed} took {verdict.lasted:.1f} s, more than {at_most:g}")
    for verdict in verdicts:
        for violation in verdict.violations:
            print(f"seed {verdict.seed}: {violation}")


def line(verdict: Verdict, *, at_most: float = math.inf) -> str:
    """Return what came of one seed, in a line."""
    phases = " ".join(f"{name} {seconds:.1f}" for name, seconds in verdict.seconds.items())
    outcome = f"{len(verdict.violations)} VIOLATIONS, see {verdict.folder}" if verdict.violations else "ok"
    if verdict.gave_up:
        outcome = f"no judgement, see {verdict.folder}"
    late = f"; TOOK {verdict.lasted:.1f} s, more than {at_most:g}" if verdict.lasted > at_most else ""
    return f"seed {verdict.seed}: {outcome}{late} ({phases})"
