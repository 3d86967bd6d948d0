"""Seats on a real tmux become what is wanted, and stay so whoever dies."""

from __future__ import annotations

import asyncio
import os
import signal

import psutil
import pytest
from mosaic_framework.manifest import Manifest
from mosaic_hostagent.backoff import Crashes
from mosaic_hostagent.seats import Session
from mosaic_proto.v1 import host_link_pb2 as pb

from tests.support.hostagent import World, eventually


def last(world: World, name: str) -> pb.SeatReport:
    return next(report for report in reversed(world.reports) if report.name == name)


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def test_wanted_seats_start_and_say_how_they_are(world: World) -> None:
    world.want(world.seat("a.b"), world.seat("c", running=False), generation=3)
    world.start()
    resident = await world.available("a.b")
    await world.reconciled(3)
    report = resident.report()
    assert (report.command, report.generation, report.problem, report.source) == ("bash", 1, "", "screen")
    assert report.pid == resident.session.pid  # type: ignore[union-attr]
    assert last(world, "c").state == pb.SeatReport(state="AGENT_STATE_EXITED").state
    assert world.private.tmux("list-sessions", "-F", "#{session_name}").split() == ["_holder", "a+b"]
    assert await world.runs() == [("started", "", 0)]


async def test_a_seat_that_stops_takes_its_processes_with_it(world: World) -> None:
    seat = world.seat("a", command=["bash", "-c", "trap '' HUP TERM; sleep 1000 & sleep 1000"])
    world.want(seat, generation=1)
    world.start()
    await eventually(lambda: world.supervisor.residents and world.resident("a").alive, "it runs")
    leader = world.resident("a").session.pid  # type: ignore[union-attr]
    await eventually(lambda: len(psutil.Process(leader).children()) == 2, "its children run")
    members = [leader, *(child.pid for child in psutil.Process(leader).children())]
    world.want(world.seat("a", generation=2, running=False, command=seat.spec.command), generation=2)
    await world.reconciled(2)
    assert [pid for pid in members if alive(pid)] == []
    assert last(world, "a").generation == 2
    assert (await world.runs())[1][:2] == ("ended", "stopped")


async def test_a_restart_is_a_new_run_once(world: World) -> None:
    world.want(world.seat("a"), generation=1)
    world.start()
    first = (await world.available("a")).run_id
    world.want(world.seat("a", generation=2, restart=1), generation=2)
    await world.reconciled(2)
    second = (await world.available("a")).run_id
    world.want(world.seat("a", generation=2, restart=1), generation=3)
    await world.reconciled(3)
    assert first < second == world.resident("a").run_id
    assert [told[:2] for told in await world.runs()] == [("started", ""), ("ended", "restarted"), ("started", "")]


async def test_a_host_that_was_away_goes_to_the_newest_state_only(world: World) -> None:
    world.want(world.seat("a", generation=9, restart=7), generation=40)
    world.start()
    await world.available("a")
    assert await world.runs() == [("started", "", 0)]


async def test_last_words_of_a_dead_seat_stay_until_the_next_run(world: World) -> None:
    world.want(world.seat("a", command=["sh", "-c", "echo farewell; sleep 0.1; exit 3"]), generation=1)
    world.start()
    await eventually(lambda: world.reports and "exit status 3" in last(world, "a").problem, "its end is told")
    assert "farewell" in world.private.tmux("capture-pane", "-p", "-t", "=a:")


async def test_a_crash_loop_slows_down_and_says_so(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Crashes, "delay", property(lambda crashes: 0.02))
    world.want(world.seat("a", command=["false"]), generation=1)
    world.start()
    # Of the run that follows it is told as well that it is in a loop, not how the one before has ended.
    await eventually(
        lambda: any("crash loop: it ended with exit status 1" in report.problem for report in world.reports),
        "the loop is told",
    )


async def test_a_seat_is_not_started_again_before_it_is_known_how_it_ended(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, answered = asyncio.Event(), asyncio.Event()
    exit_status, rounds = world.keeper._exit_status, list[str]()

    async def slow(session: Session) -> tuple[int | None, bool]:
        asked.set()
        await answered.wait()
        return await exit_status(session)

    monkeypatch.setattr(world.keeper, "_exit_status", slow)
    monkeypatch.setattr(world.supervisor, "on_round", lambda: rounds.append("done"))
    world.want(world.seat("a", command=["sh", "-c", "sleep 0.1; exit 3"]), generation=1)
    world.start()
    await asyncio.wait_for(asked.wait(), 15)
    for count in range(len(rounds) + 1, len(rounds) + 4):
        world.supervisor.look()
        await eventually(lambda wanted=count: len(rounds) >= wanted, "a round was made")
    assert await world.runs() == [("started", "", 0)]
    answered.set()
    await eventually(lambda: "exit status 3" in last(world, "a").problem, "its end is told")


async def test_what_ended_while_no_host_agent_looked_is_told(world: World) -> None:
    world.want(world.seat("a", command=["bash", "--norc"]), world.seat("b"), generation=1)
    world.start()
    a, b = (await world.available("a")).session, (await world.available("b")).session
    await world.stop()
    os.kill(a.pid, signal.SIGKILL)  # type: ignore[union-attr]
    await eventually(lambda: not alive(a.pid), "a is dead")  # type: ignore[union-attr]
    world.private.tmux("kill-session", "-t", "=b:")
    await eventually(lambda: not alive(b.pid), "b is dead")  # type: ignore[union-attr]
    world._open()
    world.want(world.seat("a", command=["bash", "--norc"]), world.seat("b"), generation=1)
    world.start()
    await world.available("a")
    await world.available("b")
    assert sorted(told for told in await world.runs() if told[0] == "ended") == [
        ("ended", "exited", 137),
        ("ended", "vanished", -1),
    ]


async def test_what_a_crashed_seat_left_in_the_background_goes_on_until_the_seat_is_stopped(world: World) -> None:
    command = ["bash", "-c", "trap '' HUP; sleep 777 & sleep 0.3; exit 1"]
    world.want(world.seat("a", command=command), generation=1)
    world.start()
    await eventually(lambda: len([told for told in world.reports if told.pid]) >= 2, "it was started twice")
    sleeping = [one for one in psutil.process_iter(["cmdline"]) if one.info["cmdline"] == ["sleep", "777"]]
    assert sleeping
    world.want(generation=2)
    await world.reconciled(2)
    for one in sleeping:
        one.kill()


async def test_a_runtime_that_is_not_installed_is_a_problem_and_no_crash(world: World, manifest: object) -> None:
    missing = Manifest.model_validate(
        {
            "name": "shell",
            "title": "Nowhere",
            "program": "no-such-program",
            "composer": {"kind": "line"},
            "install": {"command": "npm install -g nowhere"},
        }
    )
    world.want(world.seat("a", manifest=missing), world.seat("b"), generation=1)
    world.start()
    await world.available("b")
    await world.reconciled(1)
    report = last(world, "a")
    assert "Nowhere (no-such-program) is not installed" in report.problem
    assert "npm install -g nowhere" in report.problem
    assert (report.generation, report.state) == (1, pb.SeatReport(state="AGENT_STATE_EXITED").state)
    assert await world.runs() == [("started", "", 0)]


async def test_a_seat_that_fails_again_as_before_is_told_to_have_been_tried_again(world: World) -> None:
    world.want(world.seat("a", working_directory="/no/such/place"), generation=1)
    world.start()
    await world.reconciled(1)
    first = last(world, "a")
    world.want(world.seat("a", working_directory="/no/such/place", generation=2), generation=2)
    await world.reconciled(2)
    again = last(world, "a")
    assert (first.generation, again.generation, again.problem) == (1, 2, first.problem)


async def test_a_working_directory_is_made_below_home_and_nowhere_else(world: World) -> None:
    world.want(
        world.seat("a", working_directory="~/src/new"),
        world.seat("b", working_directory="/no/such/place"),
        world.seat("c", command=["no-such-command"]),
        generation=1,
    )
    world.start()
    await world.available("a")
    await world.reconciled(1)
    assert (world.private.folder / "home" / "src" / "new").is_dir()
    assert "/no/such/place is not there" in last(world, "b").problem
    assert "no-such-command" in last(world, "c").problem


async def test_a_name_that_somebody_elses_session_has_is_a_problem(world: World) -> None:
    world.private.tmux("new-session", "-d", "-s", "a", "cat")
    world.want(world.seat("a"), generation=1)
    world.start()
    await world.reconciled(1)
    assert "not this fleet's" in last(world, "a").problem


async def test_a_server_that_the_roster_names_no_more_is_left(world: World) -> None:
    world.want(world.seat("a"), world.seat("b", tmux_socket_name="earlier"), generation=1)
    world.start()
    await world.available("a")
    session = (await world.available("b")).session
    world.want(world.seat("a"), world.seat("b", generation=2), generation=2)
    await world.reconciled(2)
    assert world.resident("b").session == session  # it moves when it is restarted, and not before
    world.want(world.seat("a"), world.seat("b", generation=3, restart=1), generation=3)
    await world.reconciled(3)
    await eventually(lambda: "no server" in world.private.tmux("ls", socket_name="earlier"), "the old server is gone")
    assert world.private.tmux("list-sessions", "-F", "#{session_name}").split() == ["_holder", "a", "b"]


async def test_a_changed_seat_says_that_it_drifts_until_it_is_restarted(world: World) -> None:
    world.want(world.seat("a"), generation=1)
    world.start()
    session = (await world.available("a")).session
    world.want(world.seat("a", generation=2, env={"X": "1"}), generation=2)
    await world.reconciled(2)
    assert "mosaic fleet restart a" in last(world, "a").problem
    assert world.resident("a").session == session
    world.want(world.seat("a", generation=3, restart=1, env={"X": "1"}), generation=3)
    await world.reconciled(3)
    await world.available("a")
    assert last(world, "a").problem == ""


async def test_a_busy_shell_works_and_a_quiet_program_without_a_prompt_is_available(world: World) -> None:
    seat = world.seat("a")
    world.want(seat, world.seat("b", command=["cat"]), generation=1)
    world.start()
    await world.available("a")
    await world.ended(await world.send(seat, "sleep 4"))
    # A look in the moment between Enter and the program sees a shell without a prompt.
    await eventually(lambda: last(world, "a").detail == "it runs sleep", "it works")
    assert last(world, "a").state == pb.SeatReport(state="AGENT_STATE_WORKING").state
    resident = await world.available("b")
    assert resident.state.source == "process"
    await world.available("a")
