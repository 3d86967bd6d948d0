"""Which turn a message belongs to: nothing is claimed that its own turn has not earned, whatever comes twice."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mosaic_hostagent.ladder import Step
from mosaic_hostagent.turns import Turns

A, S, E = Step.ACCEPTED, Step.TURN_STARTED, Step.TURN_ENDED


def test_a_message_of_its_own_goes_through_its_turn() -> None:
    turns = Turns(steers=False)
    assert turns.accepted("m", 10) == [("m", A)]
    assert turns.started(11) == [("m", S)]
    assert turns.ended(20) == [("m", E)]
    assert not turns.working


def test_a_message_taken_while_another_turn_runs_ends_with_the_turn_after() -> None:
    turns = Turns(steers=False)
    turns.started(5)  # a person's prompt
    assert turns.accepted("m", 10) == [("m", A)]
    assert turns.started(10) == []
    assert turns.ended(20) == [("m", S)]
    assert turns.ended(30) == [("m", E)]


def test_three_taken_and_two_stops_end_all_three() -> None:
    turns = Turns(steers=False)
    turns.accepted("one", 1)
    turns.started(1)
    turns.accepted("two", 5)
    turns.accepted("three", 6)
    assert turns.ended(10) == [("one", E), ("two", S), ("three", S)]
    assert turns.ended(10) == []
    assert turns.ended(20) == [("two", E), ("three", E)]


def test_a_runtime_that_steers_ends_all_of_them_with_the_running_turn() -> None:
    turns = Turns(steers=True)
    turns.accepted("one", 1)
    turns.started(1)
    assert turns.accepted("two", 5) == [("two", A), ("two", S)]
    assert turns.ended(10) == [("one", E), ("two", E)]


def test_an_end_that_comes_late_does_not_end_a_later_turn() -> None:
    turns = Turns(steers=False)
    turns.accepted("m", 100)
    turns.started(100)
    assert turns.ended(50) == []
    assert turns.ended(150) == [("m", E)]


def test_a_start_that_comes_after_its_end_starts_nothing() -> None:
    turns = Turns(steers=False)
    assert turns.ended(20) == []
    assert turns.started(10) == []
    assert turns.accepted("m", 30) == [("m", A)]


def test_after_a_restart_the_journal_tells_which_turn_runs() -> None:
    turns = Turns(steers=False)
    turns.restore("one", Step.TURN_STARTED, 10)
    turns.restore("two", Step.ACCEPTED, 20)
    assert turns.ended(30) == [("one", E), ("two", S)]


@pytest.mark.parametrize("steers", [False, True])
@given(data=st.data())
def test_signals_repeated_and_out_of_order_never_end_a_message_before_its_turn(
    data: st.DataObject, steers: bool
) -> None:
    """A queueing or steering runtime is played; what it says is doubled and comes a little late."""
    queues = not steers
    signals: list[tuple[str, int, str]] = []
    ends: dict[str, int] = {}
    clock, number = 0, 0
    waiting: list[str] = []
    for _ in range(data.draw(st.integers(1, 6))):
        clock += 10
        number += 1
        own = [f"m{number}", *waiting]
        signals += [("accepted", clock, f"m{number}"), ("started", clock, "")]
        waiting = []
        for _ in range(data.draw(st.integers(0, 2))):
            clock += 10
            number += 1
            signals.append(("accepted", clock, f"m{number}"))
            (waiting if queues else own).append(f"m{number}")
        clock += 10
        signals.append(("ended", clock, ""))
        ends |= dict.fromkeys(own, clock)
        if waiting:
            clock += 10
            signals.append(("ended", clock, ""))
            ends |= dict.fromkeys(waiting, clock)
            waiting = []
    shuffler = random.Random(data.draw(st.integers(0, 2**32)))
    told = sorted(
        [signal for signal in signals for _ in range(shuffler.randint(1, 2))],
        key=lambda signal: signal[1] + shuffler.uniform(0, 15),
    )
    turns = Turns(steers=steers)
    for kind, at, message_id in told:
        rises = {
            "accepted": lambda at=at, message_id=message_id: turns.accepted(message_id, at),
            "started": lambda at=at: turns.started(at),
            "ended": lambda at=at: turns.ended(at),
        }[kind]()
        for risen, step in rises:
            assert step is not E or at >= ends[risen], f"{risen} was ended at {at}, its turn at {ends[risen]}"
