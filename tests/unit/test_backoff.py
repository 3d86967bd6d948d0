"""Hosts that lost one control plane at one moment dial again spread out, and no later than 10 s."""

from __future__ import annotations

import pytest
from mosaic_hostagent.backoff import full_jitter, held_back


@pytest.mark.parametrize(("attempt", "longest"), [(0, 0.2), (1, 0.4), (3, 1.6), (5, 6.4), (6, 10.0), (10_000, 10.0)])
def test_the_pause_is_anywhere_up_to_a_doubling_limit(attempt: int, longest: float) -> None:
    assert full_jitter(attempt, chance=lambda: 0.0) == 0.0
    assert full_jitter(attempt, chance=lambda: 1.0) == pytest.approx(longest)


def test_no_two_hosts_come_at_once() -> None:
    pauses = [full_jitter(6) for _ in range(1000)]
    assert len({round(pause, 1) for pause in pauses}) > 80


def test_a_seat_that_could_not_be_started_is_tried_again_soon_and_then_less_and_less_often() -> None:
    pauses = [held_back(refusals, longest=15.0) for refusals in range(1, 8)]
    assert pauses == [1.0, 2.0, 4.0, 8.0, 15.0, 15.0, 15.0]
    assert held_back(100_000, longest=15.0) == 15.0
