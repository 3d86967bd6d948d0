"""What came of seeds: kept in a file, and told as a line each and one table of all."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from bench.faults.machine import Verdict


def known(state: Path | None) -> dict[int, Verdict]:
    """Return what a file of verdicts says, by seed."""
    if state is None or not state.exists():
        return {}
    return {told["seed"]: Verdict(**told) for told in map(json.loads, state.read_text().splitlines())}


def table(verdicts: Sequence[Verdict], kinds_known: Iterable[str], *, at_most: float | None = None) -> None:
    """Print what came of all. `at_most`: the seconds that a seed may take."""
    totals: Counter[str] = Counter()
    for verdict in verdicts:
        totals.update(verdict.counts)
    kinds = Counter(
        kind for verdict in verdicts for fault in verdict.faults for kind in kinds_known if f" {kind} " in fault
    )
    broken = sum(bool(verdict.violations) for verdict in verdicts)
    unjudged = [verdict for verdict in verdicts if verdict.gave_up]
    print(f"\n{len(verdicts)} seeds: {broken} with violations, {len(unjudged)} without a judgement")
    lasted = sorted(sum(verdict.seconds.values()) for verdict in verdicts if verdict.seconds)
    bound = "" if at_most is None else f" (at most {at_most:g})"
    if lasted:
        print(f"seconds a seed: p50 {lasted[len(lasted) // 2]:.1f}, most {lasted[-1]:.1f}{bound}")
        views = sorted(verdict.seconds["converge"] for verdict in verdicts if verdict.seconds)
        print(f"views right after healing, s: p50 {views[len(views) // 2]:.1f}, last {views[-1]:.1f}")
    for name, number in [*sorted(totals.items()), *sorted(kinds.items())]:
        print(f"  {name:<44}{number:>9}")
    for verdict in unjudged:
        print(f"seed {verdict.seed} has no judgement: {verdict.gave_up}")
    for verdict in verdicts:
        for violation in verdict.violations:
            print(f"seed {verdict.seed}: {violation}")


def line(verdict: Verdict) -> str:
    """Return what came of one seed, in a line."""
    phases = " ".join(f"{name} {seconds:.1f}" for name, seconds in verdict.seconds.items())
    outcome = f"{len(verdict.violations)} VIOLATIONS, see {verdict.folder}" if verdict.violations else "ok"
    if verdict.gave_up:
        outcome = f"no judgement, see {verdict.folder}"
    return f"seed {verdict.seed}: {outcome} ({phases})"
