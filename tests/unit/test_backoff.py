"""Hosts that lost one control plane at one moment dial again spread out, and no later than 10 s."""

from __future__ import annotations

import pytest
from mosaic_framework.errors import TooManyStreams, Unreachable
from mosaic_hostagent.backoff import before_next_dial, full_jitter, held_back


@pytest.mark.parametrize(("attempt", "longest"), [(0, 0.2), (1, 0.4), (3, 1.6), (5, 6.4), (6, 10.0), (10_000, 10.0)])
def test_the_pause_is_anywhere_up_to_a_doubling_limit(attempt: int, longest: float) -> None:
    assert full_jitter(attempt, chance=lambda: 0.0) == 0.0
    assert full_jitter(attempt, chance=lambda: 1.0) == pytest.approx(longest)


def test_no_two_hosts_come_at_once() -> None:
    pauses = [full_jitter(6) for _ in range(1000)]
    assert len({round(pause, 1) for pause in pauses}) > 80


def test_a_link_that_a_limit_refused_is_not_dialled_before_there_is_room() -> None:
    refused = TooManyStreams.until(seconds=5.0)
    assert before_next_dial(0, refused, chance=lambda: 0.0) == 5.0
    assert before_next_dial(6, refused, chance=lambda: 1.0) == 15.0
    for failure in (None, Unreachable()):
        assert before_next_dial(0, failure, chance=lambda: 0.0) == 0.0


def test_a_seat_that_could_not_be_started_is_tried_again_soon_and_then_less_and_less_often() -> None:
    pauses = [held_back(refusals, longest=15.0) for refusals in range(1, 8)]
    assert pauses == [1.0, 2.0, 4.0, 8.0, 15.0, 15.0, 15.0]
    assert held_back(100_000, longest=15.0) == 15.0
