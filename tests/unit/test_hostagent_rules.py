"""The host-agent's pure rules: what to do with a seat, how long to wait, which step may follow which."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mosaic_framework.errors import InvalidInput
from mosaic_hostagent.backoff import Crashes, full_jitter
from mosaic_hostagent.environment import inheritable
from mosaic_hostagent.ladder import Step, is_told, may_follow, to_wire, unsure_after_crash
from mosaic_hostagent.reconcile import EXITED, REMOVED, RESTARTED, STOPPED, Keep, Rest, SeatPlan, Start, plan
from mosaic_hostagent.seats import Seat, ServerKey, Session
from mosaic_hostagent.terminal.starting import session_name
from mosaic_proto.v1 import fleet_pb2, host_link_pb2, messages_pb2, seeding_pb2

SERVER = ServerKey("s", "_holder")


def seat(
    name: str = "a",
    *,
    generation: int = 1,
    running: bool = True,
    restart: int = 0,
    briefing: seeding_pb2.Briefing | None = None,
    **spec: str,
) -> Seat:
    return Seat.from_wire(
        host_link_pb2.DesiredSeat(
            agent_id=f"agent-{name}",
            generation=generation,
            running=running,
            restart=restart,
            spec=fleet_pb2.SeatSpec(name=name, **spec),
        ),
        briefing or seeding_pb2.Briefing(),
    )


def session(name: str = "a", *, run: str = "r1", alive: bool = True, restart: int = 0, generation: int = 1) -> Session:
    return Session(
        server=SERVER,
        session_id=f"${run}",
        name=name,
        pane_id=f"%{run}",
        pid=1,
        alive=alive,
        exit_status=None if alive else 1,
        agent_id=f"agent-{name}",
        run_id=run,
        generation=generation,
        restart=restart,
        launch_digest="d",
    )


def one(wanted: Seat | None, *seen: Session, not_before: float = 0.0, now: float = 100.0) -> SeatPlan:
    desired = {wanted.agent_id: wanted} if wanted is not None else {}
    (found,) = plan(desired, seen, not_before={"agent-a": not_before}, now=now)
    return found


def reasons(found: SeatPlan) -> list[tuple[str, str]]:
    return [(stop.session.run_id, stop.reason) for stop in found.stops]


def test_a_wanted_seat_that_does_not_run_is_started() -> None:
    found = one(seat())
    assert (found.stops, found.then) == ([], Start(seat()))


def test_a_running_seat_is_kept_whatever_generation_started_it() -> None:
    wanted = seat(generation=9)
    assert one(wanted, session()).then == Keep(wanted, session())


def test_a_seat_that_is_not_wanted_to_run_is_stopped_and_rests() -> None:
    found = one(seat(running=False), session(), session(run="r0", alive=False))
    assert reasons(found) == [("r1", STOPPED), ("r0", STOPPED)]
    assert isinstance(found.then, Rest)


def test_a_seat_that_is_in_no_roster_is_ended_and_nothing_follows() -> None:
    found = one(None, session())
    assert (reasons(found), found.then) == ([("r1", REMOVED)], None)


def test_an_older_restart_count_means_relaunch_and_an_equal_one_does_not() -> None:
    found = one(seat(restart=3), session(restart=2))
    assert (reasons(found), type(found.then)) == ([("r1", RESTARTED)], Start)
    assert isinstance(one(seat(restart=3), session(restart=3)).then, Keep)


def test_a_restart_does_not_wait_for_the_back_off_of_a_crash() -> None:
    found = one(seat(restart=1), session(alive=False), not_before=1e9)
    assert isinstance(found.then, Start)


def test_a_dead_seat_is_started_again_when_its_time_has_come() -> None:
    dead = session(alive=False)
    assert isinstance(one(seat(), dead, not_before=101.0).then, Keep)
    found = one(seat(), dead, not_before=100.0)
    assert (reasons(found), type(found.then)) == ([("r1", EXITED)], Start)


def test_a_seat_without_a_session_waits_for_its_back_off_too() -> None:
    assert one(seat(), not_before=101.0).then == Rest(seat())


def test_a_seat_on_demand_stays_ended_until_it_is_asked_for_anew() -> None:
    dead = session(alive=False, generation=2)
    assert isinstance(one(seat(generation=2, lifecycle="on-demand"), dead).then, Keep)
    assert isinstance(one(seat(generation=3, lifecycle="on-demand"), dead).then, Start)


def test_of_two_sessions_of_one_seat_the_newest_living_one_is_kept() -> None:
    found = one(seat(), session(run="r1"), session(run="r2"), session(run="r3", alive=False))
    assert isinstance(found.then, Keep)
    assert found.then.session.run_id == "r2"
    assert sorted(reasons(found)) == [("r1", RESTARTED), ("r3", RESTARTED)]


SEATS = st.builds(
    lambda running, restart, lifecycle: seat(running=running, restart=restart, lifecycle=lifecycle),
    st.booleans(),
    st.integers(0, 2),
    st.sampled_from(["always", "on-demand"]),
)
SESSIONS = st.lists(
    st.builds(
        lambda run, alive, restart: session(run=f"r{run}", alive=alive, restart=restart),
        st.integers(0, 5),
        st.booleans(),
        st.integers(0, 2),
    ),
    max_size=4,
    unique_by=lambda one: one.run_id,
)


@given(SEATS, SESSIONS, st.sampled_from([0.0, 1e9]))
def test_no_plan_ever_lets_a_seat_run_twice(wanted: Seat, seen: list[Session], not_before: float) -> None:
    found = one(wanted, *seen, not_before=not_before)
    stopped = {stop.session.run_id for stop in found.stops}
    goes_on = [one for one in seen if one.alive and one.run_id not in stopped]
    starts = 1 if isinstance(found.then, Start) else 0
    assert len(goes_on) + starts <= 1
    assert not (starts and [one for one in seen if one.run_id not in stopped])
    if not wanted.running:
        assert not goes_on
        assert not starts


@given(SEATS, SESSIONS)
def test_what_a_plan_makes_needs_no_more_stops(wanted: Seat, seen: list[Session]) -> None:
    found = one(wanted, *seen)
    stopped = {stop.session.run_id for stop in found.stops}
    left = [one for one in seen if one.run_id not in stopped]
    if isinstance(found.then, Start):
        left.append(session(run="r9", restart=wanted.restart, generation=wanted.generation))
    if left or wanted.running:
        again = one(wanted, *left)
        assert not again.stops or any(not session.alive for session in left)


def test_words_about_a_seat_do_not_make_it_drift_and_what_runs_does() -> None:
    digest = seat(runtime="shell").launch_digest
    assert seat(runtime="shell", alias="Ada", kickstart="go", reports_to="b").launch_digest == digest
    assert seat(runtime="shell", model="large").launch_digest != digest


@pytest.mark.parametrize("name", ["", "../x", "a;b", "a:b", "-x", ".x", "x" * 65, "a\nb", "a+b"])
def test_a_hostile_name_makes_no_seat(name: str) -> None:
    with pytest.raises(InvalidInput):
        seat(name)


@given(*[st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,10}", fullmatch=True)] * 2)
def test_two_agents_never_share_a_session_name(first: str, second: str) -> None:
    assert (session_name(first) == session_name(second)) == (first == second)
    assert not set(session_name(first)) & {".", ":"}


def test_steps_only_rise() -> None:
    for now, then in itertools.product(Step, Step):
        if may_follow(now, then):
            assert not may_follow(then, now), (now, then)
            assert now != then


def test_a_message_that_may_have_been_typed_never_fails_or_expires() -> None:
    for now in Step:
        for then in (Step.FAILED, Step.EXPIRED):
            assert may_follow(now, then) == (now == Step.DISPATCHED)


def test_a_crash_leaves_open_exactly_what_lies_between_paste_and_proof() -> None:
    assert {step for step in Step if unsure_after_crash(step)} == {Step.TYPING, Step.TYPED, Step.ENTERING}
    assert all(may_follow(step, Step.UNKNOWN) == unsure_after_crash(step) for step in Step)


def test_every_step_that_is_told_has_a_name_on_the_wire() -> None:
    told = [messages_pb2.MessageStep.Name(to_wire(step)) for step in Step if is_told(step)]
    assert len(set(told)) == len(Step) - 2


def test_waits_double_up_to_their_bound_and_are_anywhere_below_it() -> None:
    assert [full_jitter(attempt, chance=lambda: 1.0) for attempt in range(8)] == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10, 10]
    assert full_jitter(5, chance=lambda: 0.0) == 0.0
    assert full_jitter(10**9, chance=lambda: 1.0) == 10.0


def test_crashes_slow_down_to_a_minute_and_a_long_run_forgives_them() -> None:
    crashes, delays = Crashes(), []
    for _ in range(9):
        crashes = crashes.after_run(0.5)
        delays.append(crashes.delay)
    assert delays == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert crashes.looping
    assert not Crashes(4).looping
    assert crashes.after_run(60.0) == replace(Crashes(), count=1)


def test_nothing_of_ours_and_no_outer_tmux_is_inherited() -> None:
    around = {
        "PATH": "/bin",
        "MOSAIC_HOME": "x",
        "MOSAIC_ANYTHING_SECRET": "y",
        "TMUX": "z",
        "TMUX_PANE": "%1",
        "TMUX_TMPDIR": "t",
    }
    assert inheritable(around) == {"PATH": "/bin", "TMUX_TMPDIR": "t"}
