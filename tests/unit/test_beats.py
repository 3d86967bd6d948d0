"""When a host beats, when it takes its link for silent, and how the pace follows the size of the fleet."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st
from mosaic_controlplane.mesh.pace import BEATS_A_SECOND, FASTEST, SLOWEST, STEP, answer_within, beat_interval
from mosaic_hostagent.beats import SHORTEST_ANSWER, Beats


def test_a_beat_that_goes_unanswered_for_4_s_makes_the_link_silent() -> None:
    beats = Beats(5000, 4000)
    beats.sent(100.0)
    assert not beats.silent(103.9)
    assert beats.silent(104.0)
    beats.heard(103.9)
    assert not beats.silent(104.0)


def test_beats_sent_meanwhile_do_not_put_off_the_silence() -> None:
    beats = Beats(1000, 4000)
    for second in range(5):
        beats.sent(100.0 + second)
    assert beats.silent(104.0)


@given(chance=st.floats(0, 1), interval=st.integers(100, 60_000))
def test_a_beat_is_up_to_a_fifth_early_and_never_late(chance: float, interval: int) -> None:
    beats = Beats(interval, 0, chance=lambda: chance)
    beats.sent(1000.0)
    seconds = interval / 1000
    assert not beats.due(1000.0 + 0.79 * seconds)
    assert beats.due(1000.0 + 1.001 * seconds)


def test_hosts_that_linked_at_one_moment_beat_at_different_ones() -> None:
    moments = set()
    for _ in range(20):
        beats = Beats(5000, 4000)
        beats.sent(1000.0)
        beats.heard(1000.1)
        moments.add(beats.next_look(1000.1))
    assert len(moments) > 10


def test_another_pace_counts_from_the_last_beat_and_wakes_whoever_waits_for_the_next() -> None:
    beats = Beats(60_000, 48_000, chance=lambda: 1.0)
    beats.sent(100.0)
    beats.heard(101.0)
    beats.changed.clear()
    beats.set_pace(5000, 4000)
    assert beats.changed.is_set()
    assert beats.next_look(101.0) == 4.0


def test_a_control_plane_that_says_no_pace_gets_ours() -> None:
    beats = Beats(0, 0)
    assert (beats.interval, beats.answer_within) == (5.0, SHORTEST_ANSWER)


@given(hosts=st.integers(0, 100_000), now=st.integers(1, 12))
def test_beats_cost_no_more_than_they_may_and_the_pace_stands_still_until_the_fleet_changes(
    hosts: int, now: int
) -> None:
    interval = beat_interval(hosts, now * STEP)
    assert FASTEST <= interval <= SLOWEST
    assert interval == SLOWEST or hosts / interval.total_seconds() <= BEATS_A_SECOND
    assert beat_interval(hosts, interval) == interval


@given(hosts=st.integers(100, 20_000))
def test_a_few_hosts_more_or_less_do_not_change_the_pace_to_and_fro(hosts: int) -> None:
    grown = beat_interval(hosts, FASTEST)
    fewer = beat_interval(hosts - hosts // 20, grown)
    assert fewer in (grown, beat_interval(hosts - hosts // 20, FASTEST))
    assert beat_interval(hosts, fewer) == grown


def test_a_fleet_of_two_thousand_beats_every_5_s_and_one_of_ten_thousand_every_25_s() -> None:
    assert beat_interval(2000, FASTEST) == timedelta(seconds=5)
    assert beat_interval(10_000, FASTEST) == timedelta(seconds=25)
    assert answer_within(timedelta(seconds=5)) == timedelta(seconds=4)
    assert answer_within(timedelta(seconds=25)) == timedelta(seconds=20)
