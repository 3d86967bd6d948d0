"""The checker of a run across clusters objects to each history that must never be, and to none that may."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mosaic_controlplane.federation.sharing import Sharing
from mosaic_proto.v1 import fleet_pb2

from bench.faults.history import FAIL, OK, UNKNOWN, Completed, Holding, View, Write
from bench.federation_faults.checker import violations
from bench.federation_faults.history import AcrossRun, PutBack, SentAcross
from bench.federation_faults.layout import DATABASES, MACHINES, PAIRS, REPLICAS
from bench.federation_faults.schedule import KINDS, schedule
from bench.federation_faults.views import difference, granted, shown_of


def judged(run: AcrossRun) -> list[str]:
    return violations(run, converge_seconds=5.0)


def good() -> AcrossRun:
    """A message of A, one that nobody answered, a card that A held and then C, and a view that is right."""
    return AcrossRun(
        writes=[Write("r1", "send", "a to b/b-one", "s", 0.0, 1.0, OK, 2, answers=["m1", "m1"])],
        across=[
            SentAcross("m1", "a", "b", "b-one", "x", OK, 1.0),
            SentAcross("m2", "c", "b", "b-two", "y", UNKNOWN, 1.0),
            SentAcross("m3", "a", "b", "b-two", "z", FAIL, 1.0),
        ],
        steps={"a": {"m1": "queued", "m3": "failed"}, "b": {"m1": "submitted"}, "c": {"m2": "unknown"}},
        executed={"b-one": ["x"], "b-two": []},
        holdings=[
            Holding("docs-1", 1, "a-worker0", 0.0, 1.0, 3.0),
            Holding("docs-1", 2, "c-worker0", 3.0, 4.0, 6.0),
            Holding("docs-2", 1, "a-worker1", 0.0, 1.0, 3.0),
        ],
        completed=[Completed("docs-1", 2, "c-worker0", 5.0, 5.5)],
        views=[View("b listed at a1", 1.0)],
        views_at_rest=[View("b listed at a1", 1.0)],
        shown={"a": {("b", "b-1", "builder")}, "b": {("a", "a-1", "docs"), ("c", "c-1", "docs")}},
        held={"a": 2, "c": 1},
    )


def test_a_good_run_has_no_violation() -> None:
    assert judged(good()) == []


def _twice(run: AcrossRun) -> None:
    run.executed["b-one"] = ["x", "x"]


def _twice_over_a_restore(run: AcrossRun) -> None:
    run.put_back = [PutBack("b", 0.5, 2.0)]
    run.executed["b-one"] = ["x", "x"]


def _at_another(run: AcrossRun) -> None:
    run.executed = {"b-one": [], "b-two": ["x"]}


def _lost(run: AcrossRun) -> None:
    run.executed["b-one"] = []


def _lost_and_owned_up_to_by_nobody(run: AcrossRun) -> None:
    run.put_back = [PutBack("b", 0.5, 2.0)]
    run.executed["b-one"] = []
    del run.steps["b"]["m1"]


def _lost_after_a_restore(run: AcrossRun) -> None:
    run.put_back = [PutBack("b", 0.2, 0.9)]
    run.executed["b-one"] = []
    del run.steps["b"]["m1"]


def _refused_and_carried_out(run: AcrossRun) -> None:
    run.executed["b-two"] = ["z"]


def _sent_by_nobody(run: AcrossRun) -> None:
    run.executed["b-two"] = ["w"]


def _left_open(run: AcrossRun) -> None:
    run.steps["b"]["m1"] = "dispatched"


def _answered_otherwise(run: AcrossRun) -> None:
    run.writes[0].answers[1] = "m9"


def _held_twice(run: AcrossRun) -> None:
    run.holdings[1] = replace(run.holdings[1], since=2.0)


def _more_than_it_may(run: AcrossRun) -> None:
    run.holdings.append(Holding("docs-3", 1, "a-worker2", 0.0, 1.5, 3.0))


def _more_than_it_may_in_the_register(run: AcrossRun) -> None:
    run.held["a"] = 3


def _a_card_that_it_may_not(run: AcrossRun) -> None:
    run.holdings[2] = replace(run.holdings[2], card="code-2")


def _a_fence_that_falls_over_a_restore(run: AcrossRun) -> None:
    run.put_back = [PutBack("b", 0.5, 2.0)]
    run.holdings[1] = replace(run.holdings[1], fence=1)


def _a_row_of_c_at_a(run: AcrossRun) -> None:
    run.shown["a"].add(("c", "c-1", "docs"))


def _a_row_of_c_as_one_of_b(run: AcrossRun) -> None:
    run.shown["a"].add(("b", "c-1", "docs"))


def _what_no_grant_named(run: AcrossRun) -> None:
    run.shown["a"].add(("b", "b-4", "secret"))


def _a_late_view(run: AcrossRun) -> None:
    run.views[0] = View("b listed at a1", 5.1)


def _a_view_that_never_is_right(run: AcrossRun) -> None:
    run.views[0] = View("b listed at a1", None, "ghosts: b-3")


def _a_view_that_does_not_stay_right(run: AcrossRun) -> None:
    run.views_at_rest[0] = View("b listed at a1", None, "ghosts: b-3")


def _a_mismatch(run: AcrossRun) -> None:
    run.mismatches = ["docs-1: fence is 2, found 1"]


def _an_internal_error(run: AcrossRun) -> None:
    run.internal = ["send: it broke"]


BAD: list[Callable[[AcrossRun], None]] = [
    value for name, value in sorted(globals().items()) if name.startswith("_") and callable(value) and name[1] != "_"
]


@pytest.mark.parametrize("spoil", BAD)
def test_a_bad_history_is_objected_to(spoil: Callable[[AcrossRun], None]) -> None:
    run = good()
    spoil(run)
    assert len(judged(run)) >= 1


def test_what_a_register_that_was_put_back_has_forgotten_is_no_violation() -> None:
    run = good()
    run.put_back = [PutBack("b", 0.5, 2.0)]
    run.writes[0].ended, run.writes[0].answers = 2.5, ["m1", "m1 again"]
    run.executed["b-one"], run.steps = [], {"a": {"m1": "unknown"}, "b": {}}
    run.holdings[1] = replace(run.holdings[1], asked=2.1, since=2.2, fence=7)
    run.completed = [Completed("docs-1", 1, "a-worker0", 1.5, 1.6), Completed("docs-1", 7, "c-worker0", 5.0, 5.5)]
    assert judged(run) == []


def _agent(name: str, class_name: str, host: str) -> fleet_pb2.Agent:
    return fleet_pb2.Agent(id=name, name=name, host=host, pid=7, state_detail="why", **{"class": class_name})


class _Grant:
    kind, selector, fields = "see", "class=docs", ("detail",)


def test_a_view_is_right_when_it_is_the_owners_rows_within_its_grants() -> None:
    agents = [_agent("one", "docs", "h1"), _agent("two", "secret", "h2")]
    hosts = [fleet_pb2.Host(id=name, name=name, state=fleet_pb2.HOST_STATE_LIVE) for name in ("h1", "h2")]
    true = granted(Sharing.of([_Grant()]), agents, hosts)
    shown = fleet_pb2.Agent(id="one", name="one", host="h1", state_detail="why", cluster="b", **{"class": "docs"})
    host = fleet_pb2.Host(id="h1", name="h1", state=fleet_pb2.HOST_STATE_LIVE, cluster="b")
    assert difference(shown_of([shown], [host]), true) == ""
    assert "missing: agent one" in difference(shown_of([], [host]), true)
    assert "ghosts: agent two" in difference(shown_of([shown, agents[1]], [host]), true)
    shown.pid = 7
    assert "otherwise: agent one" in difference(shown_of([shown], [host]), true)
    assert agents[0].pid == 7, "what is compared with is left as it was"


@given(seed=st.integers(), window=st.floats(2, 60), faults=st.integers(0, 30))
def test_a_schedule_follows_from_its_seed_and_is_over_within_its_window(seed: int, window: float, faults: int) -> None:
    found = schedule(seed, window=window, faults=faults)
    assert found == schedule(seed, window=window, faults=faults)
    assert len(found) == faults
    for fault in found:
        assert 0 <= fault.at <= fault.until <= window + 0.01
        assert fault.kind in KINDS
        assert fault.target in {*MACHINES, *REPLICAS, *DATABASES}
        if fault.kind == "cut clusters":
            assert (fault.target, fault.other) in PAIRS
