"""`mosaic up`, `status`, `down` on real parts: register, control plane, host-agent, tmux; and nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from mosaic_cli.machine.services import MARK

from tests.support.machine import Machine, clear_abandoned

pytestmark = pytest.mark.timeout(180)

SECRET_WORDS = ("PRIVATE KEY", "mosaic1.")


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine that is up, with two shells as its fleet."""
    clear_abandoned()
    found = Machine(tmp_path_factory.mktemp("machine"))
    try:
        found.up()
        found.apply("counter", "clerk")
        yield found
    finally:
        found.close()


def test_up_makes_a_cluster_of_one_operator_and_one_live_host(machine: Machine) -> None:
    assert machine.mosaic("status").returncode == 0
    assert [item["state"] for item in machine.json("host", "ls")["items"]] == ["live"]
    assert machine.json("context", "show")["name"] == "local"
    states = {item["name"]: item["state"] for item in machine.json("status")["items"]}
    assert states == dict.fromkeys(("supervisor", "database", "controlplane", "hostagent"), "running")


def test_up_again_changes_nothing(machine: Machine) -> None:
    before = {name: machine.pid(name) for name in ("supervisor", "database", "controlplane", "hostagent")}
    machine.up()
    assert {name: machine.pid(name) for name in before} == before
    assert len(machine.json("host", "ls")["items"]) == 1


def test_a_message_runs_in_the_seat_and_tail_shows_the_answer(machine: Machine) -> None:
    done = machine.mosaic("agent", "send", "counter", "-m", "echo $((6 * 7)) is the answer", "-o", "json")
    assert done.returncode == 0, done.stderr + machine.logs()
    *steps, receipt = map(json.loads, done.stdout.splitlines())
    assert [step["step"] for step in steps] == [step["step"] for step in receipt["steps"]]
    assert (steps[0]["step"], receipt["step"]) == ("queued", "submitted")
    deadline = time.monotonic() + 10
    while "42 is the answer" not in (text := machine.mosaic("agent", "tail", "counter").stdout):
        assert time.monotonic() < deadline, text
        time.sleep(0.1)
    shown = machine.json("message", "show", receipt["id"])
    assert shown["body"] == "echo $((6 * 7)) is the answer"


def test_an_agent_that_is_not_there_ends_with_3_and_the_nearest_name(machine: Machine) -> None:
    done = machine.mosaic("agent", "send", "countr", "-m", "x")
    assert done.returncode == 3
    assert "counter" in done.stderr


def test_stop_and_start_bring_about_what_they_say(machine: Machine) -> None:
    assert machine.mosaic("fleet", "stop", "clerk").returncode == 0
    assert machine.json("agent", "show", "clerk")["pid"] is None
    assert machine.mosaic("fleet", "start", "clerk").returncode == 0
    first = machine.json("agent", "show", "clerk")["pid"]
    assert machine.mosaic("fleet", "restart", "clerk").returncode == 0
    assert machine.json("agent", "show", "clerk")["pid"] not in (None, first)


@pytest.mark.parametrize("name", ["hostagent", "controlplane", "database"])
def test_a_killed_service_comes_back_and_the_agents_lived_on(machine: Machine, name: str) -> None:
    pids = {item["name"]: item["pid"] for item in machine.json("agent", "ls")["items"]}
    old = machine.pid(name)
    os.kill(old, signal.SIGKILL)
    machine.up()
    deadline = time.monotonic() + 60
    while machine.mosaic("fleet", "ps").returncode != 0 or machine.mosaic("status").returncode != 0:
        assert time.monotonic() < deadline, machine.logs()
    assert machine.pid(name) != old
    assert {item["name"]: item["pid"] for item in machine.json("agent", "ls")["items"]} == pids
    done = machine.mosaic("agent", "send", "counter", "-m", "true")
    assert done.returncode == 0, done.stderr + machine.logs()


def test_a_killed_supervisor_is_replaced_by_up(machine: Machine) -> None:
    pids = {item["name"]: item["pid"] for item in machine.json("agent", "ls")["items"]}
    os.kill(machine.pid("supervisor"), signal.SIGKILL)
    done = machine.mosaic("status")
    assert done.returncode == 5
    assert "orphaned" in done.stdout
    assert "nothing runs" not in machine.mosaic("doctor").stdout
    machine.up()
    assert machine.mosaic("status").returncode == 0
    deadline = time.monotonic() + 60
    while machine.mosaic("fleet", "ps").returncode != 0:
        assert time.monotonic() < deadline, machine.logs()
    assert {item["name"]: item["pid"] for item in machine.json("agent", "ls")["items"]} == pids


def test_up_logs_in_and_joins_again_when_roots_were_changed_without_waiting_and_the_agents_lived_on(
    machine: Machine,
) -> None:
    pids = {item["name"]: item["pid"] for item in machine.json("agent", "ls")["items"]}
    for step in (["add"], ["--force", "use"]):
        done = machine.controlplane("authority", *step)
        assert done.returncode == 0, done.stderr
    refused = machine.mosaic("host", "ls")
    assert (refused.returncode, "mosaic up" in refused.stderr) == (4, True), refused.stderr
    machine.up()
    assert [item["state"] for item in machine.json("host", "ls")["items"]] == ["live"]
    assert {item["name"]: item["pid"] for item in machine.json("agent", "ls")["items"]} == pids
    done = machine.mosaic("agent", "send", "counter", "-m", "true", "--timeout", "20")
    assert done.returncode == 0, done.stderr + machine.logs()  # by a link that was made since


def test_another_home_on_the_same_port_is_told_whose_it_is(machine: Machine, tmp_path: Path) -> None:
    address = json.loads((machine.home.run / "controlplane.json").read_text())["fleet_address"]
    done = machine.mosaic(
        "up", "--fleet-port", address.rpartition(":")[2], "--enrol-port", "0", home=tmp_path / "other"
    )
    assert done.returncode == 6
    assert str(machine.home.root) in done.stderr
    assert len(done.stderr.splitlines()) <= 5  # four lines, after the progress
    assert not (tmp_path / "other" / "run" / "supervisor.pid").exists()


def test_down_asks_and_off_a_terminal_refuses(machine: Machine) -> None:
    done = machine.mosaic("down")
    assert done.returncode == 2
    assert "running: " in done.stderr
    assert machine.mosaic("status").returncode == 0


def test_no_secret_is_in_a_log_an_argument_or_a_file_that_others_can_read(machine: Machine) -> None:
    assert not any(word in machine.logs() for word in SECRET_WORDS)
    for process in machine.processes():
        assert not any(word in " ".join(process.cmdline()) for word in SECRET_WORDS)
    for path in machine.home.root.rglob("*"):
        if path.is_file() and not path.is_symlink():
            mode = stat.S_IMODE(path.stat().st_mode)
            assert not mode & 0o077 or path.name == "roster.yaml", f"{path} has mode {mode:o}"
    assert stat.S_IMODE(machine.home.root.stat().st_mode) == 0o700


def test_down_leaves_no_process_and_up_brings_the_same_fleet_back(machine: Machine) -> None:
    done = machine.mosaic("down", "--yes")
    assert done.returncode == 0, done.stderr + machine.logs()
    assert machine.processes() == []
    assert machine.mosaic("fleet", "ps").returncode == 5
    assert machine.mosaic("down", "--yes").returncode == 0
    machine.up()
    assert machine.mosaic("fleet", "start", "--all").returncode == 0
    assert {item["name"] for item in machine.json("agent", "ls")["items"]} == {"counter", "clerk"}
    assert machine.mosaic("agent", "send", "counter", "-m", "true").returncode == 0


def test_down_works_when_everything_else_was_killed(machine: Machine) -> None:
    for name in ("supervisor", "hostagent", "controlplane", "database"):
        os.kill(machine.pid(name), signal.SIGKILL)
    done = machine.mosaic("down", "--yes")
    assert done.returncode == 0, done.stderr
    assert machine.processes() == []


def test_marked_processes_are_the_ones_that_up_started(machine: Machine) -> None:
    machine.up()
    marks = {process.environ().get(MARK) for process in machine.processes()}
    assert {"supervisor", "database", "controlplane", "hostagent"} <= marks
