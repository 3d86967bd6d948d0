"""Promises of `mosaic fleet add|remove|diff`: the file and the register say the same, or the file stays as it was."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
from mosaic_framework.errors import Conflict
from mosaic_framework.paths import Home

from tests.fakes.control_plane import FakeControlPlane
from tests.support.cli import Mosaic

ROSTER = """\
# The fleet of the attic.
version: 1
transport: tmux
floor: [orchestrator]
agents:
  - name: lead   # never to be removed
    runtime: shell
    class: orchestrator
  - name: coder0
    runtime: shell
    class: code
"""


@pytest.fixture
def roster(home: Home) -> Path:
    path = home.fleet / "roster.yaml"
    path.parent.mkdir(parents=True, mode=0o700)
    path.write_text(ROSTER, encoding="utf-8")
    return path


@pytest.fixture
def applied(plane: FakeControlPlane, mosaic: Mosaic, roster: Path) -> Path:
    assert mosaic("fleet", "apply", "--detach").code == 0
    return roster


def names(document: str) -> list[str]:
    return [agent["name"] for agent in json.loads(document)["agents"]]


def test_an_agent_added_stands_in_file_and_register_and_comments_stay(
    plane: FakeControlPlane, mosaic: Mosaic, applied: Path
) -> None:
    done = mosaic("fleet", "add", "coder1", "--runtime", "shell", "--class", "code", "--detach", "-o", "json")
    assert done.code == 0, done.err
    text = applied.read_text()
    assert text.startswith(ROSTER)
    assert names(plane.roster.document) == ["lead", "coder0", "coder1"]
    assert plane.applied[-1].base_version == 1
    assert mosaic("fleet", "diff").code == 0


def test_every_field_of_an_agent_has_a_flag_and_reaches_the_seat(
    plane: FakeControlPlane, mosaic: Mosaic, applied: Path
) -> None:
    flags = ["--runtime", "claude", "--class", "code", "--host", "build1", "--alias", "Ada's desk", "--model", "opus"]
    flags += ["--working-directory", "/srv/src", "--account", "team", "--persona", "Be brief.", "--reset-between-tasks"]
    flags += ["--on-demand", "--reports-to", "lead", "--kickstart", "Begin.", "--unattended", "--arg=--verbose"]
    flags += ["--arg", "a b; $(c)", "--channel", "ops", "--env", "LEVEL=1", "--env", "EMPTY=", "--socket", "other"]
    done = mosaic("fleet", "add", "ada", *flags, "--detach")
    assert done.code == 0, done.err
    assert json.loads(plane.roster.document)["agents"][-1] == {
        "name": "ada",
        "runtime": "claude",
        "class": "code",
        "host": "build1",
        "alias": "Ada's desk",
        "model_hint": "opus",
        "working_directory": "/srv/src",
        "account": "team",
        "persistent_persona": "Be brief.",
        "reset_between_tasks": True,
        "lifecycle": "on-demand",
        "reports_to": "lead",
        "kickstart_template": "Begin.",
        "unattended": True,
        "args": ["--verbose", "a b; $(c)"],
        "channels": ["ops"],
        "env": {"LEVEL": "1", "EMPTY": ""},
        "socket": "other",
    }


def test_a_command_is_split_as_a_shell_would_and_never_run_by_one(
    plane: FakeControlPlane, mosaic: Mosaic, applied: Path
) -> None:
    done = mosaic("fleet", "add", "bot", "--runtime", "shell", "--command", "run 'two words' $HOME", "--detach")
    assert done.code == 0, done.err
    assert list(plane.applied[-1].seats[-1].command) == ["run", "two words", "$HOME"]
    assert mosaic("fleet", "add", "b2", "--runtime", "shell", "--command", "run 'open").code == 2


def test_an_agent_added_without_starting_was_never_wanted_running(
    plane: FakeControlPlane, mosaic: Mosaic, applied: Path
) -> None:
    """A new seat on demand is not started; the register keeps that when the seat becomes an ordinary one."""
    done = mosaic("fleet", "add", "coder1", "--runtime", "shell", "--no-start", "--detach")
    assert done.code == 0, done.err
    lifecycles = [request.seats[-1].lifecycle for request in plane.applied[1:]]
    assert lifecycles == ["on-demand", "always"]
    assert "on-demand" not in applied.read_text()


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["coder0", "--runtime", "shell"], 6, "there is already an agent 'coder0'"),
        (["lead2", "--runtime", "shell", "--class", "orchestrator"], 6, "the fleet has its orchestrator, lead"),
        (["new", "--runtime", "shel"], 1, "shell"),
        (["-x-", "--runtime", "shell"], 2, ""),
        (["new", "--runtime", "shell", "--working-directory", "src"], 1, "--working-directory: must start with"),
        (["new", "--runtime", "shell", "--env", "MOSAIC_HOME=/tmp"], 1, "is set by the host itself"),
    ],
)
def test_an_agent_that_cannot_be_added_leaves_file_and_register_alone(
    plane: FakeControlPlane, mosaic: Mosaic, applied: Path, arguments: list[str], code: int, told: str
) -> None:
    done = mosaic("fleet", "add", *arguments)
    assert done.code == code
    assert told in done.err
    assert applied.read_text() == ROSTER
    assert len(plane.applied) == 1


def test_a_refused_apply_takes_the_edit_back(plane: FakeControlPlane, mosaic: Mosaic, applied: Path) -> None:
    plane.fail("ApplyRoster", Conflict("another roster has been applied"))
    done = mosaic("fleet", "add", "coder1", "--runtime", "shell")
    assert done.code == 6
    assert applied.read_text() == ROSTER
    assert f"{applied} is as it was" in done.err


def test_a_roster_applied_meanwhile_is_to_be_pulled_first(
    plane: FakeControlPlane, mosaic: Mosaic, applied: Path
) -> None:
    plane.roster.version, plane.roster.applied_by = 7, "bert"
    done = mosaic("fleet", "add", "coder1", "--runtime", "shell")
    assert done.code == 6
    assert "mosaic fleet diff --pull" in done.err
    assert applied.read_text() == ROSTER


def test_an_apply_whose_answer_was_lost_keeps_the_edit_and_says_that_it_is_not_known(
    plane: FakeControlPlane, mosaic: Mosaic, applied: Path
) -> None:
    plane.fail("ApplyRoster", (grpc.StatusCode.UNAVAILABLE, "Socket closed"))
    done = mosaic("fleet", "add", "coder1", "--runtime", "shell")
    assert done.code == 5
    assert "coder1" in applied.read_text()
    assert "mosaic fleet diff" in done.err


def test_a_seat_that_does_not_come_up_stays_added(plane: FakeControlPlane, mosaic: Mosaic, applied: Path) -> None:
    plane.add_host("build1")
    plane.after_apply = lambda: plane.add_agent("coder1", "UNKNOWN", pid=0, problem="bash is not installed") and None
    done = mosaic("fleet", "add", "coder1", "--runtime", "shell")
    assert done.code == 1
    assert "bash is not installed" in done.err
    assert "coder1" in applied.read_text()
    assert names(plane.roster.document)[-1] == "coder1"


def test_adding_to_the_file_alone_needs_no_cluster(home: Home, mosaic: Mosaic, roster: Path) -> None:
    assert mosaic("fleet", "add", "coder1", "--runtime", "shell").code == 4
    assert roster.read_text() == ROSTER
    done = mosaic("fleet", "add", "coder1", "--runtime", "shell", "--no-apply")
    assert done.code == 0, done.err
    assert "coder1" in roster.read_text()


def test_a_dry_run_shows_the_edit_and_does_nothing(plane: FakeControlPlane, mosaic: Mosaic, applied: Path) -> None:
    done = mosaic("fleet", "add", "coder1", "--runtime", "shell", "--dry-run")
    assert done.code == 0
    assert "+  - name: coder1" in done.err
    assert applied.read_text() == ROSTER
    assert len(plane.applied) == 1


def test_an_agent_removed_is_gone_from_both(plane: FakeControlPlane, mosaic: Mosaic, applied: Path) -> None:
    done = mosaic("fleet", "remove", "coder0", "--yes", "--detach")
    assert done.code == 0, done.err
    assert "coder0" not in applied.read_text()
    assert "# never to be removed" in applied.read_text()
    assert names(plane.roster.document) == ["lead"]


def test_the_last_holder_of_a_floor_class_stays(plane: FakeControlPlane, mosaic: Mosaic, applied: Path) -> None:
    done = mosaic("fleet", "remove", "lead", "--yes")
    assert done.code == 6
    assert "the fleet keeps a seat of class orchestrator" in done.err
    assert applied.read_text() == ROSTER
    assert len(plane.applied) == 1


def test_removing_asks_and_a_refusal_off_a_terminal_leaves_all_as_it_was(
    plane: FakeControlPlane, mosaic: Mosaic, applied: Path
) -> None:
    done = mosaic("fleet", "remove", "coder0")
    assert done.code == 2
    assert applied.read_text() == ROSTER
    assert len(plane.applied) == 1


def test_removing_what_is_not_there_ends_with_3_and_the_nearest(mosaic: Mosaic, applied: Path) -> None:
    done = mosaic("fleet", "remove", "codr0", "--yes")
    assert done.code == 3
    assert "coder0" in done.err


def test_diff_tells_host_by_host_what_apply_would_do_and_ends_with_1(
    plane: FakeControlPlane, mosaic: Mosaic, applied: Path
) -> None:
    text = ROSTER.replace("    class: code\n", "    class: code\n    model_hint: fast\n")
    text = text.replace("floor: [orchestrator]", "floor: [orchestrator, code]")
    applied.write_text(text + "  - {name: far, runtime: shell, host: attic}\n")
    done = mosaic("fleet", "diff", "-o", "json")
    assert done.code == 1
    assert [(item["host"], item["name"], item["change"], item["fields"]) for item in done.json["items"]] == [
        ("", "", "changed", ['floor: ["orchestrator"] → ["orchestrator", "code"]']),
        ("attic", "far", "added", []),
        ("build1", "coder0", "changed", ["model_hint: unset → fast"]),
    ]
    assert len(plane.applied) == 1


def test_diff_of_what_all_seats_share_names_it(mosaic: Mosaic, applied: Path) -> None:
    applied.write_text(ROSTER.replace("transport: tmux\n", "transport: tmux\ndefaults: {working_directory: /srv}\n"))
    items = mosaic("fleet", "diff", "-o", "json").json["items"]
    assert {item["name"] for item in items} == {"lead", "coder0"}
    assert all(item["fields"] == ['defaults: unset → {"working_directory": "/srv"}'] for item in items)


def test_diff_ends_with_6_when_another_roster_was_applied_meanwhile(
    plane: FakeControlPlane, mosaic: Mosaic, applied: Path
) -> None:
    plane.roster.version, plane.roster.applied_by = 7, "bert"
    done = mosaic("fleet", "diff")
    assert done.code == 6
    assert "version 7 by bert" in done.err


def test_pulling_brings_the_registers_roster_into_the_file_with_its_comments_and_a_backup(
    plane: FakeControlPlane, mosaic: Mosaic, applied: Path
) -> None:
    document = json.loads(plane.roster.document)
    document["agents"].append({"name": "from-the-web", "runtime": "shell", "class": "code"})
    plane.roster.document, plane.roster.version, plane.roster.applied_by = json.dumps(document), 7, "bert"
    done = mosaic("fleet", "diff", "--pull", "--yes", "-o", "json")
    assert done.code == 0, done.err
    assert applied.read_text().startswith(ROSTER)
    assert "from-the-web" in applied.read_text()
    assert Path(done.json["backup"]).read_text() == ROSTER
    assert mosaic("fleet", "diff").code == 0
    assert mosaic("fleet", "add", "coder1", "--runtime", "shell", "--detach").code == 0
    assert plane.applied[-1].base_version == 7


def test_pulling_off_a_terminal_asks_for_yes_and_a_dry_run_does_nothing(
    plane: FakeControlPlane, mosaic: Mosaic, applied: Path
) -> None:
    applied.write_text(ROSTER + "  - {name: mine, runtime: shell}\n")
    before = applied.read_text()
    assert mosaic("fleet", "diff", "--pull").code == 2
    done = mosaic("fleet", "diff", "--pull", "--dry-run")
    assert done.code == 0
    assert "-  - {name: mine, runtime: shell}" in done.err
    assert applied.read_text() == before


def test_pulling_makes_the_file_where_there_is_none(plane: FakeControlPlane, mosaic: Mosaic, applied: Path) -> None:
    applied.unlink()
    assert mosaic("fleet", "diff").code == 3
    assert mosaic("fleet", "diff", "--pull").code == 0
    assert mosaic("fleet", "diff").code == 0


def test_pulling_from_a_register_without_a_roster_says_so(
    plane: FakeControlPlane, mosaic: Mosaic, roster: Path
) -> None:
    done = mosaic("fleet", "diff", "--pull", "--yes")
    assert done.code == 3
    assert roster.read_text() == ROSTER


def test_of_two_changes_at_once_the_second_waits_and_undoes_nothing(
    home: Home, plane: FakeControlPlane, mosaic: Mosaic, applied: Path
) -> None:
    lock = os.open(home.state / "roster-change.lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    command = ["fleet", "add", "second", "--runtime", "shell", "--detach"]
    second = subprocess.Popen([sys.executable, "-m", "mosaic_cli.main", *command], stderr=subprocess.PIPE, text=True)
    assert second.stderr is not None
    assert "another roster change is under way" in second.stderr.readline()
    assert applied.read_text() == ROSTER
    # What the first one does meanwhile:
    text = ROSTER + "  - {name: first, runtime: shell}\n"
    applied.write_text(text)
    assert mosaic("fleet", "apply", "--detach").code == 0
    os.close(lock)
    assert second.wait(30) == 0, second.stderr.read()
    assert names(plane.roster.document) == ["lead", "coder0", "first", "second"]
    second.stderr.close()
