"""The checker of a run under faults objects to each history that must never be, and to none that may."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.faults.checker import DIES_WITH_ITS_TERMINAL_SECONDS, violations
from bench.faults.history import FAIL, OK, UNKNOWN, Completed, Holding, Received, Run, Sent, View, Write


def judged(run: Run) -> list[str]:
    return violations(run, converge_seconds=5.0)


def good() -> Run:
    """Two messages, a card that ran out under one holder and was completed by the next, and a view that is right."""
    return Run(
        writes=[Write("r1", "send", "a", "s", 0.0, 1.0, OK, 2, answers=["m1 1", "m1 1"])],
        sent=[Sent("m1", "a", "x", OK), Sent("m2", "a", "y", OK), Sent("m3", "b", "z", UNKNOWN)],
        received={"m1": Received("submitted", 1, 10.0), "m2": Received("unknown", 2)},
        executed={"a": ["x"], "b": []},
        holdings=[Holding("c", 1, "w1", 0.0, 1.0, 3.0), Holding("c", 2, "w2", 3.0, 4.0, 6.0)],
        completed=[Completed("c", 2, "w2", 5.0, 5.5)],
        views=[View("list", 1.0)],
    )


def test_a_good_run_has_no_violation() -> None:
    assert judged(good()) == []


def _twice(run: Run) -> None:
    run.executed["a"] = ["x", "x"]


def _at_another(run: Run) -> None:
    run.executed = {"a": [], "b": ["x"]}


def _lost(run: Run) -> None:
    run.executed["a"] = []


def _open(run: Run) -> None:
    run.received["m2"] = Received("dispatched", 2)


def _forgotten(run: Run) -> None:
    del run.received["m2"]


def _expired_and_arrived(run: Run) -> None:
    run.received["m1"] = Received("expired", 1)


def _refused_and_taken(run: Run) -> None:
    run.sent[1] = Sent("m2", "a", "y", FAIL)


def _out_of_nothing(run: Run) -> None:
    run.executed["b"] = ["what nobody sent"]


def _out_of_order(run: Run) -> None:
    run.received["m2"] = Received("submitted", 2, 11.0)
    run.executed["a"] = ["y", "x"]


def _answered_otherwise(run: Run) -> None:
    run.writes[0].answers[1] = "m1 2"


def _held_twice(run: Run) -> None:
    run.holdings[0].until = 4.5


def _same_fence(run: Run) -> None:
    run.holdings[1].fence = 1


def _falling_fence(run: Run) -> None:
    run.holdings[0].fence = 7


def _completed_by_a_stale_holder(run: Run) -> None:
    run.completed[0] = Completed("c", 1, "w1", 5.0, 5.5)


def _completed_twice(run: Run) -> None:
    run.completed.append(Completed("c", 1, "w1", 3.5, 5.6))


def _given_when_done(run: Run) -> None:
    run.holdings.append(Holding("c", 3, "w3", 7.0, 7.1, 9.0))


def _late_view(run: Run) -> None:
    run.views[0] = View("list", 5.1)


def _wrong_view(run: Run) -> None:
    run.views[0] = View("list", None, "a ('lost', 0) is ('live', 7)")


def _mismatch(run: Run) -> None:
    run.mismatches.append("c: unmet is 1, found 0")


def _register_lost(run: Run) -> None:
    run.register.append("c: a client was told completed under 2, and its history has no such transition")


def _internal(run: Run) -> None:
    run.internal.append("send a: KeyError")


@pytest.mark.parametrize(
    ("spoil", "objection"),
    [
        (_twice, "arrived 2 times"),
        (_at_another, "arrived at b"),
        (_lost, "never arrived"),
        (_open, "neither arrived nor ended: still dispatched"),
        (_forgotten, "there is no receipt of it"),
        (_expired_and_arrived, "said to have expired, and it arrived"),
        (_refused_and_taken, "refused, and yet it is at unknown"),
        (_out_of_nothing, "which nobody sent"),
        (_out_of_order, "message 1 of the seat arrived after message 2"),
        (_answered_otherwise, "repeated, it was answered otherwise"),
        (_held_twice, "held twice at once"),
        (_same_fence, "both given fence 1"),
        (_falling_fence, "the fence fell from 7 to 2"),
        (_completed_by_a_stale_holder, "completed by w1 under 1, though it had been given to w2 under 2"),
        (_completed_twice, "completed twice"),
        (_given_when_done, "after w2 was told that it is done"),
        (_late_view, "right only 5.1 s after healing"),
        (_wrong_view, "never became right"),
        (_mismatch, "backlog verify"),
        (_register_lost, "no such transition"),
        (_internal, "internal error"),
    ],
)
def test_a_bad_run_is_objected_to(spoil: Callable[[Run], None], objection: str) -> None:
    run = good()
    spoil(run)
    assert any(objection in one for one in judged(run)), judged(run)


def test_what_was_entered_just_before_its_terminal_was_killed_may_be_lost_and_nothing_earlier() -> None:
    run = good()
    run.executed["a"] = []
    run.seats_killed = {"a": [10.0 + DIES_WITH_ITS_TERMINAL_SECONDS / 2]}
    assert judged(run) == []
    run.seats_killed = {"a": [10.0 + DIES_WITH_ITS_TERMINAL_SECONDS * 2], "b": [10.0]}
    assert judged(run) != []


def test_an_unacknowledged_message_may_have_arrived_or_not() -> None:
    run = good()
    run.received["m3"] = Received("submitted", 1, 12.0)
    run.executed["b"] = ["z"]
    assert judged(run) == []


@st.composite
def leases(draw: st.DrawFn) -> list[Holding]:
    """Claims of one card as a right register gives them: each after the one before is over, under the next fence."""
    found, now, fence = [], 0.0, 0
    for holder in draw(st.lists(st.sampled_from("abc"), min_size=1, max_size=6)):
        fence += draw(st.integers(1, 3))
        asked = draw(st.floats(0, 1)) + (found[-1].since if found else 0.0)
        since = max(now, asked) + draw(st.floats(0.01, 1))
        until = since + draw(st.floats(0.01, 2))
        found.append(Holding("c", fence, holder, asked, since, until))
        now = until
    return found


@given(leases())
def test_no_run_of_leases_one_after_another_is_objected_to(holdings: list[Holding]) -> None:
    assert judged(Run(holdings=holdings)) == []


@given(leases(), st.data())
def test_any_lease_stretched_into_the_next_is_objected_to(holdings: list[Holding], data: st.DataObject) -> None:
    if len(holdings) < 2:
        return
    place = data.draw(st.integers(0, len(holdings) - 2))
    holdings[place].until = holdings[place + 1].since + 0.005
    assert any("held twice at once" in one for one in judged(Run(holdings=holdings)))


@given(leases(), st.data())
def test_any_completion_by_an_earlier_holder_is_objected_to(holdings: list[Holding], data: st.DataObject) -> None:
    if len(holdings) < 2:
        return
    stale = data.draw(st.sampled_from(holdings[:-1]))
    asked = holdings[-1].since + 0.5
    run = Run(holdings=holdings, completed=[Completed("c", stale.fence, stale.holder, asked, asked + 1)])
    assert any("though it had been given to" in one for one in judged(run))


@given(st.lists(st.uuids(), unique=True, min_size=1, max_size=8), st.data())
def test_of_messages_that_arrived_once_each_in_order_any_two_exchanged_are_objected_to(
    ids: list[object], data: st.DataObject
) -> None:
    marks = [str(one) for one in ids]
    run = Run(
        sent=[Sent(mark, "a", mark, OK) for mark in marks],
        received={mark: Received("submitted", number, 1.0) for number, mark in enumerate(marks, 1)},
        executed={"a": list(marks)},
    )
    assert judged(run) == []
    one, other = data.draw(st.integers(0, len(marks) - 1)), data.draw(st.integers(0, len(marks) - 1))
    if one != other:
        swapped = list(marks)
        swapped[one], swapped[other] = swapped[other], swapped[one]
        assert judged(replace(run, executed={"a": swapped})) != []
