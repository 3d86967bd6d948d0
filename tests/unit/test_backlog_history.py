"""The checker of histories objects to each of the histories that must never be."""

from __future__ import annotations

from uuid import UUID

import pytest

from tests.support.backlog_history import Acknowledged, Edge, Event, violations

A, B = UUID(int=1), UUID(int=2)
MADE = Event(1, "a", "created", "ready", 0)
TAKEN = Event(2, "a", "claimed", "claimed", 1, A)


def test_a_good_history_has_no_violation() -> None:
    events = [
        MADE,
        TAKEN,
        Event(3, "a", "expired", "ready", 1, A),
        Event(4, "a", "claimed", "claimed", 2, B),
        Event(5, "a", "completed", "done", 2, B),
    ]
    told = [Acknowledged("a", "claimed", 1, A), Acknowledged("a", "completed", 2, B)]
    assert violations(events, [], told, {"a": ("done", 2)}) == []


@pytest.mark.parametrize(
    ("events", "final", "objection"),
    [
        ([MADE, TAKEN, Event(3, "a", "claimed", "claimed", 2, B)], ("claimed", 2), "claimed while it was claimed"),
        (
            [MADE, TAKEN, Event(3, "a", "expired", "ready", 1), Event(4, "a", "claimed", "claimed", 1, B)],
            ("claimed", 1),
            "the fence went from 1 to 1",
        ),
        ([MADE, TAKEN, Event(3, "a", "released", "ready", 0, A)], ("ready", 0), "the fence went back from 1 to 0"),
        ([MADE, TAKEN, Event(3, "a", "completed", "done", 1, B)], ("done", 1), "completed by another than its holder"),
        (
            [MADE, TAKEN, *(Event(n, "a", "completed", "done", 1, A) for n in (3, 4))],
            ("done", 1),
            "completed twice",
        ),
        (
            [MADE, TAKEN, Event(3, "a", "completed", "done", 1, A), Event(4, "a", "claimed", "claimed", 2, A)],
            ("claimed", 2),
            "came back from done",
        ),
        ([MADE, TAKEN], ("ready", 1), "its history ends otherwise"),
    ],
)
def test_a_bad_history_is_objected_to(events: list[Event], final: tuple[str, int], objection: str) -> None:
    assert any(objection in one for one in violations(events, [], [], {"a": final}))


def test_a_claim_before_what_it_depends_on_is_objected_to() -> None:
    late = Event(9, "b", "completed", "done", 1, B)
    edges = [Edge(1, "a", "b", added=True)]
    found = violations([MADE, TAKEN, late], edges, [], {"a": ("claimed", 1)})
    assert "a: claimed (event 2) while b was not done" in found
    undone = [*edges, Edge(2, "a", "b", added=False)]
    assert not any("not done" in one for one in violations([MADE, Event(3, *_rest(TAKEN))], undone, [], {}))


def test_a_lost_completion_and_an_invented_claim_are_objected_to() -> None:
    done = [MADE, TAKEN, Event(3, "a", "completed", "done", 1, A)]
    told = [Acknowledged("a", "completed", 1, A), Acknowledged("a", "claimed", 7, B)]
    found = violations(done, [], told, {"a": ("ready", 1)})
    assert any("is lost" in one for one in found)
    assert any("told claimed under 7" in one for one in found)


def _rest(event: Event) -> tuple[str, str, str, int, UUID | None]:
    return (event.card, event.kind, event.status, event.fence, event.actor)
