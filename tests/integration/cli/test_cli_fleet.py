"""Promises of `mosaic fleet` and `mosaic agent|host ls|show`, over the real wire."""

from __future__ import annotations

import _thread
import json
import threading
import time
from pathlib import Path

import grpc
import pytest
from mosaic_cli.client import ANSWER_WITHIN
from mosaic_controlplane.mesh.links import CAPTURE_SECONDS
from mosaic_framework.errors import Conflict, Denied, NotLoggedIn
from mosaic_framework.paths import Home
from mosaic_proto.v1 import fleet_pb2

from tests.fakes.control_plane import FakeControlPlane
from tests.support.cli import Mosaic, lines

ROSTER = """\
version: 1
transport: tmux
tmux: {socket_name: mosaic-test}
agents:
  - {name: coder0, runtime: shell, class: code, working_directory: /tmp}
  - {name: coder1, runtime: shell, class: code, working_directory: /tmp}
"""


@pytest.fixture
def roster(home: Home) -> Path:
    path = home.fleet / "roster.yaml"
    path.parent.mkdir(parents=True, mode=0o700)
    path.write_text(ROSTER, encoding="utf-8")
    return path


def seats_come_up(plane: FakeControlPlane, *names: str) -> None:
    plane.add_host("build1")
    plane.after_apply = lambda: [plane.add_agent(name) for name in names] and None


def test_ps_shows_who_needs_a_person_first(plane: FakeControlPlane, mosaic: Mosaic) -> None:
    plane.add_host("build1")
    plane.add_agent("coder0")
    plane.add_agent("asker", "WAITING")
    done = mosaic("fleet", "ps")
    assert done.code == 0
    assert [line.split()[2] for line in lines(done.out)] == ["AGENT", "asker", "coder0"]


def test_ps_ends_with_5_when_a_row_may_be_old_and_still_shows_it(plane: FakeControlPlane, mosaic: Mosaic) -> None:
    plane.add_host("build1", "LOST", beat=600)
    plane.add_agent("coder0")
    done = mosaic("fleet", "ps")
    assert done.code == 5
    assert "available (lost)" in done.out
    assert "stale: build1 not heard of" in done.err


def test_selectors_pick_rows_and_staleness_counts_only_for_them(plane: FakeControlPlane, mosaic: Mosaic) -> None:
    plane.add_host("build1")
    plane.add_host("attic", "LOST", beat=600)
    plane.add_agent("coder0")
    plane.add_agent("far", host="attic")
    assert mosaic("fleet", "ps", "--host", "build1", "-o", "name").out == "build1/coder0\n"
    assert mosaic("fleet", "ps", "--host", "build1").code == 0
    assert mosaic("agent", "ls", "--state", "available", "--class", "code", "-o", "name").out.count("\n") == 2


def test_ps_shows_sessions_of_nobodys_and_names_only_what_can_be_addressed(
    plane: FakeControlPlane, mosaic: Mosaic
) -> None:
    plane.add_host("build1").unmanaged.add(name="scratch", pid=7, command="vim")
    plane.add_agent("coder0", labels={"team": "red"})
    shown = mosaic("fleet", "ps", "-o", "json").json
    assert [(item["name"], item["managed"], item["state"]) for item in shown["items"]] == [
        ("scratch", False, "unmanaged"),
        ("coder0", True, "available"),
    ]
    assert mosaic("fleet", "ps", "-o", "name").out == "build1/coder0\n"
    assert "scratch" not in mosaic("agent", "ls").out
    assert [item["name"] for item in mosaic("fleet", "ps", "--state", "unmanaged", "-o", "json").json["items"]] == [
        "scratch"
    ]


def test_labels_select_by_name_or_by_value(plane: FakeControlPlane, mosaic: Mosaic) -> None:
    plane.add_host("build1")
    plane.add_agent("coder0", labels={"team": "red", "tier": "1"})
    plane.add_agent("coder1", labels={"team": "blue"})
    plane.add_agent("coder2")
    found = lambda *label: mosaic("fleet", "ps", *label, "-o", "name").out.split()  # noqa: E731
    assert found("--label", "team") == ["build1/coder0", "build1/coder1"]
    assert found("--label", "team=red") == ["build1/coder0"]
    assert found("--label", "team=red", "--label", "tier=2") == []
    assert mosaic("agent", "ls", "--label", "team=blue", "-o", "name").out == "build1/coder1\n"


def test_an_applied_roster_is_waited_for_until_its_seats_are_up(
    plane: FakeControlPlane, mosaic: Mosaic, roster: Path
) -> None:
    seats_come_up(plane, "coder0", "coder1")
    done = mosaic("fleet", "apply", "-o", "json")
    assert done.code == 0, done.err
    assert done.json["version"] == 1
    assert [(item["name"], item["change"]) for item in done.json["items"]] == [("coder0", "added"), ("coder1", "added")]
    assert "build1/coder0: available, pid 4000" in done.err
    request = plane.applied[0]
    assert request.default_host == "build1"
    assert [seat.name for seat in request.seats] == ["coder0", "coder1"]
    assert json.loads(request.document)["version"] == 1


def test_applying_waits_for_a_seat_that_starts_late(plane: FakeControlPlane, mosaic: Mosaic, roster: Path) -> None:
    plane.add_host("build1")
    starting = plane.add_agent("coder0", "STARTING", pid=0)
    up = fleet_pb2.Agent()
    up.CopyFrom(starting)
    up.state, up.pid = fleet_pb2.AGENT_STATE_AVAILABLE, 77
    snapshot = [
        fleet_pb2.WatchEvent(host=plane.hosts["build1"], cursor="1"),
        fleet_pb2.WatchEvent(agent=starting, cursor="2"),
        fleet_pb2.WatchEvent(bookmark=fleet_pb2.Bookmark(snapshot_complete=True), cursor="3"),
    ]
    plane.events = [snapshot, [fleet_pb2.WatchEvent(agent=up, cursor="4")]]
    done = mosaic("fleet", "apply", "--timeout", "10s")
    assert done.code == 0, done.err
    assert done.err.index("build1/coder0: starting") < done.err.index("build1/coder0: available, pid 77")
    assert plane.watches[1].cursor == "3"


def test_a_seat_with_a_problem_makes_apply_fail_and_names_it(
    plane: FakeControlPlane, mosaic: Mosaic, roster: Path
) -> None:
    plane.add_host("build1")
    plane.after_apply = lambda: plane.add_agent("coder0", "UNKNOWN", pid=0, problem="bash is not installed") and None
    done = mosaic("fleet", "apply")
    assert done.code == 1
    assert "bash is not installed" in done.err
    assert "next:  mosaic agent show build1/coder0" in done.err


def test_applying_to_a_host_that_is_away_is_not_finished_and_says_for_what_it_waits(
    plane: FakeControlPlane, mosaic: Mosaic, roster: Path
) -> None:
    plane.add_host("build1", "LOST", beat=600)
    plane.after_apply = lambda: plane.add_agent("coder0", "UNKNOWN", generation=2, observed_generation=1) and None
    done = mosaic("fleet", "apply", "--timeout", "300ms")
    assert done.code == 8
    assert "waits for its host, which is lost" in done.err


def test_a_dry_run_shows_the_difference_and_changes_nothing(
    plane: FakeControlPlane, mosaic: Mosaic, roster: Path
) -> None:
    done = mosaic("fleet", "apply", "--dry-run", "-o", "json")
    assert [item["change"] for item in done.json["items"]] == ["added", "added"]
    assert not plane.applied


def test_a_roster_applied_by_somebody_else_meanwhile_is_a_conflict_that_tells_the_difference(
    plane: FakeControlPlane, mosaic: Mosaic, roster: Path
) -> None:
    seats_come_up(plane, "coder0", "coder1")
    assert mosaic("fleet", "apply", "--detach").code == 0
    plane.roster.version, plane.roster.applied_by = 7, "bert"
    roster.write_text(ROSTER + "  - {name: extra, runtime: shell}\n", encoding="utf-8")
    done = mosaic("fleet", "apply")
    assert done.code == 6
    assert "version 7 by bert, not 1" in done.err
    assert "extra added" in done.err
    assert len(plane.applied) == 1
    assert mosaic("fleet", "apply", "--base", "7", "--detach").code == 0


def test_removing_a_seat_is_refused_off_a_terminal_without_yes(
    plane: FakeControlPlane, mosaic: Mosaic, roster: Path
) -> None:
    seats_come_up(plane, "coder0", "coder1")
    mosaic("fleet", "apply", "--detach")
    roster.write_text(ROSTER.replace("  - {name: coder1, runtime: shell, class: code, working_directory: /tmp}\n", ""))
    done = mosaic("fleet", "apply", "--detach")
    assert done.code == 2
    assert "stop and remove coder1" in done.err
    assert len(plane.applied) == 1
    assert mosaic("fleet", "apply", "--detach", "--yes").code == 0


def test_force_is_handed_on_with_an_apply_and_only_when_it_is_said(
    plane: FakeControlPlane, mosaic: Mosaic, roster: Path
) -> None:
    seats_come_up(plane, "coder0", "coder1")
    mosaic("fleet", "apply", "--detach")
    mosaic("fleet", "apply", "--detach", "--force")
    assert [request.force_moves for request in plane.applied] == [False, True]


def test_a_wrong_roster_is_told_with_file_line_and_nearest_key_and_sends_nothing(
    plane: FakeControlPlane, mosaic: Mosaic, roster: Path
) -> None:
    roster.write_text(ROSTER.replace("class: code", "clas: code", 1), encoding="utf-8")
    done = mosaic("fleet", "apply")
    assert done.code == 1
    assert "roster.yaml" in done.err
    assert "clas" in done.err
    assert "class" in done.err
    assert len(lines(done.err)) <= 4
    assert not plane.calls


def test_stop_waits_until_the_seat_is_gone(plane: FakeControlPlane, mosaic: Mosaic) -> None:
    plane.add_host("build1")
    agent = plane.add_agent("coder0", "EXITED", desired_running=False, pid=0)
    plane.change_reply = fleet_pb2.ChangeSeatsReply(
        agents=[agent], generations=[fleet_pb2.HostGeneration(host="build1", generation=4)]
    )
    done = mosaic("fleet", "stop", "coder0")
    assert done.code == 0
    assert "build1/coder0: stopped" in done.err
    assert plane.changed[0].action == fleet_pb2.SEAT_ACTION_STOP
    assert list(plane.changed[0].agents) == ["coder0"]


def test_stop_tries_every_seat_and_tells_of_each_that_failed(plane: FakeControlPlane, mosaic: Mosaic) -> None:
    plane.add_host("build1")
    agents = [plane.add_agent("good", "EXITED", desired_running=False, pid=0)]
    agents += [
        plane.add_agent(name, desired_running=False, problem=f"tmux refused to end {name}")
        for name in ("bad0", "bad1", "bad2")
    ]
    plane.change_reply = fleet_pb2.ChangeSeatsReply(
        agents=agents, generations=[fleet_pb2.HostGeneration(host="build1", generation=4)]
    )
    done = mosaic("fleet", "stop", "--all")
    assert done.code == 1
    assert "build1/good: stopped" in done.err
    for name in ("bad0", "bad1", "bad2"):
        assert f"build1/{name}: tmux refused to end {name}" in done.err
    assert "3 of 4 seats have a problem (seats-have-problems)" in done.err


def test_watch_shows_each_change_once_though_the_connection_breaks(plane: FakeControlPlane, mosaic: Mosaic) -> None:
    plane.add_host("build1")
    agent = plane.add_agent("coder0")
    working = fleet_pb2.Agent()
    working.CopyFrom(agent)
    working.state = fleet_pb2.AGENT_STATE_WORKING
    plane.events = [
        [
            fleet_pb2.WatchEvent(host=plane.hosts["build1"], cursor="1"),
            fleet_pb2.WatchEvent(agent=agent, cursor="2"),
            fleet_pb2.WatchEvent(bookmark=fleet_pb2.Bookmark(snapshot_complete=True), cursor="3"),
        ],
        [fleet_pb2.WatchEvent(agent=working, cursor="4")],
    ]

    def interrupt(_context: grpc.ServicerContext) -> None:
        if len(plane.watches) == 3:
            _thread.interrupt_main()

    plane.before["Watch"] = interrupt
    done = mosaic("agent", "ls", "-w", "-o", "json")
    assert done.code == 130
    events = [json.loads(line) for line in lines(done.out)]
    assert [(event["kind"], event["state"], event["cursor"]) for event in events] == [
        ("Agent", "available", None),
        ("Agent", "working", "4"),
    ]
    assert [request.cursor for request in plane.watches] == ["", "3", "4"]


def interrupted_at(plane: FakeControlPlane, number: int) -> None:
    """Interrupt the command a moment after its watch has begun for the `number`th time."""

    def interrupt(_context: grpc.ServicerContext) -> None:
        if len(plane.watches) == number:
            threading.Timer(0.5, _thread.interrupt_main).start()

    plane.before["Watch"] = interrupt


def test_what_went_while_a_snapshot_broke_off_half_way_is_not_shown(plane: FakeControlPlane, mosaic: Mosaic) -> None:
    plane.add_host("build1")
    gone = plane.add_agent("gone")
    plane.events = [[fleet_pb2.WatchEvent(agent=gone)]]  # and no bookmark
    plane.agents.clear()
    plane.add_agent("kept")
    interrupted_at(plane, 2)
    done = mosaic("agent", "ls", "-w", "-o", "name")
    assert done.out == "build1/kept\n"
    assert [request.cursor for request in plane.watches] == ["", ""]


@pytest.mark.parametrize("form", ["table", "json"])
def test_a_watch_says_that_it_cannot_go_on_from_a_cursor_and_shows_all_anew(
    plane: FakeControlPlane, mosaic: Mosaic, form: str
) -> None:
    plane.add_host("build1")
    plane.add_agent("coder0")
    plane.events = [[fleet_pb2.WatchEvent(reset=fleet_pb2.Reset(reason="the cursor is too old"))]]
    interrupted_at(plane, 2)
    done = mosaic("fleet", "watch", "--cursor", "old", "-o", form)
    assert [request.cursor for request in plane.watches] == ["old", ""]
    assert "the cursor is too old" in done.err
    if form == "json":
        told = [json.loads(line) for line in lines(done.out)]
        assert [one["kind"] for one in told] == ["Reset", "Host", "Agent"]
        assert [one["cursor"] for one in told[1:]] == ["", "3"], "whoever read half of it cannot go on from there"
    else:
        assert "build1/coder0" in done.out


def test_an_unknown_host_ends_with_3_and_the_nearest_names(plane: FakeControlPlane, mosaic: Mosaic) -> None:
    plane.add_host("build1")
    done = mosaic("host", "show", "biuld1")
    assert done.code == 3
    assert "the nearest names are build1" in done.err


def test_a_host_token_is_on_stdout_and_the_command_to_run_on_stderr(plane: FakeControlPlane, mosaic: Mosaic) -> None:
    done = mosaic("host", "token", "build2", "--ttl", "5m")
    assert done.out == "mosaic1.build2.secret\n"
    assert "mosaic host join" in done.err
    assert "secret" not in done.err


def test_a_hostile_host_name_is_refused_before_it_is_sent(plane: FakeControlPlane, mosaic: Mosaic) -> None:
    assert mosaic("host", "token", "../x").code == 1
    assert not plane.calls


def test_tail_shows_the_terminal_without_its_escape_sequences(plane: FakeControlPlane, mosaic: Mosaic) -> None:
    plane.add_agent("coder0")
    done = mosaic("agent", "tail", "coder0")
    assert done.out == "$ echo hi\nhi[31m\n"


def test_a_host_is_given_up_before_the_control_plane_and_that_as_soon_as_for_any_call(
    plane: FakeControlPlane, mosaic: Mosaic
) -> None:
    plane.add_agent("coder0")
    waits: list[float] = []
    plane.before["Tail"] = lambda context: waits.append(context.time_remaining())
    assert mosaic("agent", "tail", "coder0").code == 0
    assert waits[0] <= ANSWER_WITHIN
    assert CAPTURE_SECONDS < ANSWER_WITHIN


@pytest.mark.parametrize("error", [Denied("a viewer may not do this"), NotLoggedIn("the login was revoked")])
def test_who_may_not_is_told_so_with_4(plane: FakeControlPlane, mosaic: Mosaic, error: Denied) -> None:
    plane.fail("ListAgents", error)
    done = mosaic("fleet", "ps")
    assert done.code == 4
    assert error.what in done.err


def test_a_conflict_of_the_control_plane_ends_with_6(plane: FakeControlPlane, mosaic: Mosaic) -> None:
    plane.fail("ChangeSeats", Conflict("somebody else changed it"))
    assert mosaic("fleet", "stop", "--all").code == 6


def test_the_replica_that_answers_is_used(plane: FakeControlPlane, mosaic: Mosaic, home: Home) -> None:
    plane.add_host("build1")
    plane.write_context(home, addresses=("127.0.0.1:1", plane.address))
    done = mosaic("host", "ls", "-o", "name")
    assert (done.code, done.out) == (0, "build1\n")


def test_a_silent_address_beside_one_that_answers_costs_nothing(
    plane: FakeControlPlane, mosaic: Mosaic, home: Home
) -> None:
    import socket

    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        plane.add_host("build1")
        plane.write_context(home, addresses=(f"127.0.0.1:{silent.getsockname()[1]}", plane.address))
        done = mosaic("host", "ls", "-o", "name")
    assert (done.code, done.out) == (0, "build1\n")
    assert done.seconds < 2


def test_waiting_survives_a_control_plane_that_comes_back(
    plane: FakeControlPlane, mosaic: Mosaic, roster: Path
) -> None:
    plane.add_host("build1")
    plane.after_apply = lambda: plane.add_agent("coder0", "STARTING", pid=0) and None

    def restart() -> None:
        while not plane.watches:
            time.sleep(0.01)
        plane.stop()
        plane.agents.clear()
        plane.add_agent("coder0")
        plane.start()

    thread = threading.Thread(target=restart)
    thread.start()
    done = mosaic("fleet", "apply", "--timeout", "20s")
    thread.join()
    assert done.code == 0, done.err
    assert "build1/coder0: available, pid 4000" in done.err


def test_a_cursor_that_is_too_old_starts_anew_and_forgets_what_is_gone(plane: FakeControlPlane, mosaic: Mosaic) -> None:
    plane.add_host("build1")
    gone = plane.add_agent("gone")
    complete = fleet_pb2.Bookmark(snapshot_complete=True)
    plane.events = [
        [fleet_pb2.WatchEvent(agent=gone, cursor="1"), fleet_pb2.WatchEvent(bookmark=complete, cursor="2")],
        [fleet_pb2.WatchEvent(reset=fleet_pb2.Reset(reason="the register was restored"))],
    ]
    plane.agents.clear()
    plane.add_agent("kept")

    def interrupt(_context: grpc.ServicerContext) -> None:
        if len(plane.watches) == 3:
            threading.Timer(0.5, _thread.interrupt_main).start()

    plane.before["Watch"] = interrupt
    done = mosaic("agent", "ls", "-w", "-o", "name")
    assert done.code == 130
    assert done.out == "build1/gone\nbuild1/kept\n"
    assert [request.cursor for request in plane.watches] == ["", "2", ""]


def test_fleet_status_ends_with_5_when_a_host_is_silent(mosaic: Mosaic, plane: FakeControlPlane) -> None:
    plane.add_host("build1", seats=1)
    plane.add_agent("coder0")
    assert mosaic("fleet", "status").code == 0
    plane.add_host("attic", "LOST", beat=7200)
    done = mosaic("fleet", "status", "-o", "json")
    assert (done.code, [item["name"] for item in done.json["items"]]) == (5, ["attic", "build1"])
    assert done.json["items"][1]["byState"] == {"available": 1}
