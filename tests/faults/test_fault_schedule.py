"""The faults of a seed follow from it alone, end within their window, and a few seeds meet each kind."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.faults.schedule import KINDS, MACHINES, schedule
from tests.support.hub import Rules, Told


@given(st.integers(0, 10_000), st.floats(3, 20), st.integers(1, 30))
def test_a_seed_gives_the_same_faults_each_time_and_all_are_over_by_the_end_of_the_window(
    seed: int, window: float, faults: int
) -> None:
    found = schedule(seed, window=window, faults=faults)
    assert found == schedule(seed, window=window, faults=faults)
    assert len(found) == faults
    assert all(0 <= fault.at <= fault.until <= window + 0.01 for fault in found)
    assert all(fault.target in (*MACHINES, "all hosts") for fault in found)


def test_five_seeds_meet_every_kind_of_fault() -> None:
    met = {fault.kind for seed in range(1, 6) for fault in schedule(seed, window=9, faults=8)}
    assert met == set(KINDS)


def test_what_is_killed_is_up_again_before_the_window_ends() -> None:
    for seed in range(200):
        for fault in schedule(seed, window=8.0, faults=12):
            if fault.kind.startswith(("kill", "restart")):
                assert fault.until <= 6.01


@pytest.mark.parametrize("port", [0, 1])
def test_a_line_that_loses_everything_lets_nothing_pass_and_a_cut_pair_only_others(port: int) -> None:
    import random

    chance = random.Random(0)
    assert Rules(loss={port: 1.0}).way(0, 1, chance) is None
    assert Rules(cut={frozenset((0, 1))}).way(1, 0, chance) is None
    assert Rules(cut={frozenset((0, 1))}, delay={2: 0.5, 0: 0.25}).way(0, 2, chance) == 0.75
    assert Rules.parse(Rules({frozenset((0, 1))}, {2: 0.3}, {1: 0.1}).line()) == Rules(
        {frozenset((0, 1))}, {2: 0.3}, {1: 0.1}
    )


@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.integers(1, 200))
def test_the_last_rules_that_the_switch_was_told_hold_however_they_come_in(losses: list[int], size: int) -> None:
    text = "".join(Rules(loss={port: 0.5}).line() + "\n" for port in losses).encode()
    told = Told()
    heard = [told.rules_after(text[start : start + size]) for start in range(0, len(text), size)]
    assert [rules for rules in heard if rules is not None][-1] == Rules(loss={losses[-1]: 0.5})
