"""Three clusters of real programs under seeded faults show what they are granted, and carry out once what is sent.

The long run of the same is bench/federation_faults. No time is asserted here: of a view it is asked that it becomes
right.
"""

from __future__ import annotations

import pytest

from bench.faults.machine import missing, run
from bench.federation_faults.__main__ import PROGRAM
from bench.federation_faults.options import Options

LIMIT_SECONDS = 220.0

pytestmark = [
    pytest.mark.skipif(bool(missing(clocks=False)), reason=f"no machine for a seed: {missing(clocks=False)}"),
    pytest.mark.timeout(LIMIT_SECONDS + 20),
]


# The first puts a register back, the second cuts clusters apart and changes grants meanwhile.
@pytest.mark.parametrize("seed", [19, 123])
def test_views_come_right_and_nothing_is_done_twice_under_the_faults_of(seed: int) -> None:
    options = Options(seed, window=4.0, faults=4, converge_seconds=30.0)
    verdict = run(options, limit=LIMIT_SECONDS, program=PROGRAM)
    assert not verdict.gave_up, (verdict.gave_up, verdict.folder)
    assert verdict.violations == [], (verdict.faults, verdict.folder)
    # It was a run: rows changed and were seen, messages were carried out, and cards claimed, all across.
    assert min(verdict.counts[what] for what in ("changes at owners", "rows seen", "carried out", "claims")) > 0
