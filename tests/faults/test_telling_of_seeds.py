"""What bench/faults says of the seeds that it ran, and what it ends with."""

from __future__ import annotations

import pytest

from bench.faults.machine import Verdict
from bench.faults.telling import line, passed, table

MOST = 25.0


def seeds(*seconds: float) -> list[Verdict]:
    return [Verdict(number, [], seconds={"faults": one - 1, "converge": 1.0}) for number, one in enumerate(seconds, 1)]


@pytest.mark.parametrize(("seconds", "good"), [((20, 21, 40), True), ((20, 26, 27), False), ((), True)])
def test_seeds_fail_when_half_of_them_take_too_long(seconds: tuple[float, ...], good: bool) -> None:
    assert passed(seeds(*seconds), at_most=MOST) is good


def test_a_seed_that_takes_too_long_is_told_by_its_number_and_in_the_count(capsys: pytest.CaptureFixture[str]) -> None:
    verdicts = seeds(20, 40.5)
    table(verdicts, [], at_most=MOST)
    told = capsys.readouterr().out.splitlines()
    assert told[1] == "2 seeds: 0 with violations, 0 without a judgement, 1 too long"
    assert "seed 2 took 40.5 s, more than 25" in told
    assert "TOOK 40.5 s" in line(verdicts[1], at_most=MOST)
    assert "TOOK" not in line(verdicts[0], at_most=MOST)


@pytest.mark.parametrize("wrong", [Verdict(1, ["a claim was held twice"]), Verdict(1, [], gave_up="no tmux")])
def test_a_seed_found_wrong_or_without_a_judgement_fails_all(wrong: Verdict) -> None:
    assert not passed([*seeds(20, 20, 20), wrong], at_most=MOST)
