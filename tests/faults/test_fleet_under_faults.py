"""A fleet of real programs under seeded faults keeps what it promises; without the fence it does not, and that is seen.

The long run of the same is bench/faults. No time is asserted here: of a view it is asked that it becomes right.
"""

from __future__ import annotations

import pytest

from bench.faults.machine import Verdict, missing, run
from bench.faults.options import Options
from bench.faults.schedule import KINDS, schedule

LIMIT_SECONDS = 220.0
SEEDS = [104, 105, 106, 107, 108]
WINDOW, FAULTS = 4.0, 4

pytestmark = [
    pytest.mark.skipif(bool(missing()), reason=f"no machine can be made for a seed: {missing()}"),
    pytest.mark.timeout(LIMIT_SECONDS + 20),
]


def verdict_of(seed: int, *, window: float, faults: int, without_fence: bool = False) -> Verdict:
    options = Options(seed, window=window, faults=faults, converge_seconds=30.0, without_fence=without_fence)
    return run(options, limit=LIMIT_SECONDS)


def test_the_seeds_meet_every_kind_of_fault_between_them() -> None:
    assert {fault.kind for seed in SEEDS for fault in schedule(seed, window=WINDOW, faults=FAULTS)} == set(KINDS)


@pytest.mark.parametrize("seed", SEEDS)
def test_no_promise_is_broken_under_the_faults_of(seed: int) -> None:
    verdict = verdict_of(seed, window=WINDOW, faults=FAULTS)
    assert not verdict.gave_up, (verdict.gave_up, verdict.folder)
    assert verdict.violations == [], (verdict.faults, verdict.folder)
    # It was a run: messages arrived, and cards were claimed and completed.
    assert min(verdict.counts[what] for what in ("arrived", "claims", "completions")) > 0, verdict.counts


def test_a_register_that_compares_no_fence_is_found_out() -> None:
    # Few faults and much time: holders oversleep their leases by themselves, and others take their cards up.
    verdict = verdict_of(1, window=9.0, faults=3, without_fence=True)
    assert any("completed" in one for one in verdict.violations), verdict
