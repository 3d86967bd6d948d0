"""This machine's processes: known by more than a pid, found again, ended; ports and tmux told clearly."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from mosaic_cli.bring_up import sanitised
from mosaic_cli.machine import homes, ports, start, tmux
from mosaic_cli.machine.leftovers import marked_processes
from mosaic_cli.machine.local import refresh_host_addresses
from mosaic_cli.machine.processes import Process, end, record, recorded, wait_gone
from mosaic_cli.machine.services import ALL, HOSTAGENT, MARK, Plan, PlanDamaged, services
from mosaic_framework.errors import InvalidInput
from mosaic_framework.names import check_name
from mosaic_framework.paths import Home, private_folder, write_private

from tests.fakes.control_plane import FakeControlPlane


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.delenv("MOSAIC_DATABASE_URL", raising=False)
    return Home(tmp_path / "home")


def sleeper(**environment: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(["sleep", "60"], env={**os.environ, **environment})


def test_a_process_is_known_by_pid_and_start(tmp_path: Path) -> None:
    child = sleeper()
    process = Process.running(child.pid)
    assert process is not None
    assert process.alive
    assert not Process(child.pid, "another start").alive
    assert not Process(child.pid, "another start").signal(signal.SIGTERM)
    assert end([process], grace=5) == []
    assert not process.alive  # a zombie is not alive
    child.wait()


def test_a_pid_file_of_another_start_names_nobody(tmp_path: Path) -> None:
    record(tmp_path / "x.pid", Process(os.getpid(), "long ago"))
    assert recorded(tmp_path / "x.pid") is None
    me = Process.running(os.getpid())
    assert me is not None
    record(tmp_path / "x.pid", me)
    assert recorded(tmp_path / "x.pid") == me
    (tmp_path / "x.pid").write_text("rubbish")
    assert recorded(tmp_path / "x.pid") is None


def test_a_process_that_ignores_sigterm_is_killed() -> None:
    child = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import signal,time; signal.signal(15, signal.SIG_IGN); print(1, flush=True); time.sleep(60)",
        ],
        stdout=subprocess.PIPE,
    )
    assert child.stdout is not None
    child.stdout.readline()
    process = Process.running(child.pid)
    assert process is not None
    assert end([process], grace=0.2) == []
    assert not process.alive
    child.wait()


def test_waiting_tells_who_is_still_there() -> None:
    child = sleeper()
    process = Process.running(child.pid)
    assert process is not None
    assert wait_gone([process], 0.05) == [process]
    child.kill()
    assert wait_gone([process], 5) == []
    child.wait()


def test_our_processes_are_found_by_their_mark_and_others_are_not(home: Home, tmp_path: Path) -> None:
    ours = sleeper(MOSAIC_HOME=str(home.root), **{MARK: HOSTAGENT})
    others = [sleeper(MOSAIC_HOME=str(tmp_path / "other"), **{MARK: HOSTAGENT}), sleeper(MOSAIC_HOME=str(home.root))]
    try:
        assert [item.process.pid for item in marked_processes(home)] == [ours.pid]
    finally:
        for child in (ours, *others):
            child.kill()
            child.wait()


def test_a_port_in_use_names_who_holds_it(home: Home) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        with pytest.raises(ports.PortInUse) as caught:
            ports.check_ports(home, Plan(fleet_port=port, enrol_port=0))
    assert caught.value.exit_code == 6
    assert f"(pid {os.getpid()}) listens there" in caught.value.why
    assert "mosaic up --fleet-port 0" in caught.value.next_step


def test_one_port_for_both_listeners_is_refused_before_anything_starts(home: Home) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(InvalidInput) as caught:
        ports.check_ports(home, Plan(fleet_port=port, enrol_port=port))
    assert f"port {port}" in caught.value.what
    assert "--enrol-port 0" in caught.value.next_step


def test_a_port_of_another_mosaic_names_its_home(home: Home, tmp_path: Path) -> None:
    other, me = Home(tmp_path / "other"), Process.running(os.getpid())
    assert me is not None
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        homes.register(other, me, (port,))
        with pytest.raises(ports.PortInUse) as caught:
            ports.check_ports(home, Plan(fleet_port=port, enrol_port=0))
        homes.unregister(other)
    assert str(other.root) in caught.value.why
    assert f"MOSAIC_HOME={other.root} mosaic down" in caught.value.next_step


def test_a_home_whose_supervisor_was_killed_does_not_count_as_running(home: Home) -> None:
    homes.register(home, Process(os.getpid(), "long ago"), (7443,))
    assert homes.running() == []


def test_any_port_is_free_for_a_control_plane_with_settings_of_its_own(home: Home) -> None:
    write_private(home.root / "controlplane.yaml", b"fleet_port: 1\n")
    assert ports.wanted_ports(home, Plan()) == []
    assert [wanted.port for wanted in ports.wanted_ports(home, Plan(fleet_port=9000))] == [9000]


@pytest.mark.parametrize(
    ("said", "version"), [("tmux 3.3a", (3, 3)), ("tmux next-3.6", (3, 6)), ("tmux 2.9", (2, 9)), ("tmux master", None)]
)
def test_the_version_of_tmux_is_read(said: str, version: tuple[int, int] | None) -> None:
    assert tmux.parse_version(said) == version


def test_a_missing_tmux_is_told_with_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(tmux.TmuxUnfit, match="not installed") as caught:
        tmux.check_tmux()
    assert "tmux" in caught.value.next_step
    for name, said in (("tmux", "tmux 3.1c"), ("apt-get", "")):
        (tmp_path / name).write_text(f"#!/bin/sh\necho {said}\n")
        (tmp_path / name).chmod(0o755)
    with pytest.raises(tmux.TmuxUnfit, match="too old") as caught:
        tmux.check_tmux()
    assert caught.value.next_step == "sudo apt-get install tmux"
    assert "at least tmux 3.2" in caught.value.why


@pytest.mark.parametrize("name", ["box", "bøx.örg", "-x-", "", "a" * 300, "../etc", "日本"])
def test_any_machine_gets_a_name_that_is_allowed(name: str) -> None:
    assert check_name(sanitised(name), what="host")


def test_the_register_is_ours_unless_a_url_is_given(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [service.name for service in services(home, Plan())]
    assert names == list(ALL)
    monkeypatch.setenv("MOSAIC_DATABASE_URL", "postgresql://x")
    assert [service.name for service in services(home, Plan())] == list(ALL[1:])
    monkeypatch.delenv("MOSAIC_DATABASE_URL")
    write_private(home.root / "controlplane.yaml", b"database_url: postgresql://x\n")
    assert [service.name for service in services(home, Plan())] == list(ALL[1:])
    assert [service.name for service in services(home, Plan((HOSTAGENT,)))] == [HOSTAGENT]


def test_a_plan_is_kept(home: Home) -> None:
    assert Plan.load(home) == Plan()
    Plan((HOSTAGENT,), fleet_port=0).save(home)
    assert Plan.load(home) == Plan((HOSTAGENT,), fleet_port=0)


def test_the_last_words_of_a_log_are_its_error() -> None:
    log = (
        'x\n{"event": "started"}\nerror: port 1 is in use (port-in-use)\nwhy:   another listens\nnext:  mosaic status\n'
    )
    assert start.last_words(log) == "port 1 is in use (port-in-use); another listens"
    assert start.last_words("Traceback\n  x\nModuleNotFoundError: no\n") == "ModuleNotFoundError: no"
    assert start.last_words("") == ""


def test_this_machines_host_follows_its_control_plane_to_another_port(home: Home, tmp_path: Path) -> None:
    import json

    from mosaic_cli.machine.local import host_identity

    fake = FakeControlPlane(tmp_path)
    identity = fake.identity(kind="host", name="box")
    identity.save(home.pki / "host")
    facts = {"pid": os.getpid(), "enrol_address": "127.0.0.1:1", "fleet_address": "0.0.0.0:4711"}
    write_private(home.run / "controlplane.json", json.dumps(facts | {"trust_domain": "other.mosaic"}).encode())
    refresh_host_addresses(home)
    assert host_identity(home) == identity
    write_private(home.run / "controlplane.json", json.dumps(facts | {"trust_domain": identity.trust_domain}).encode())
    refresh_host_addresses(home)
    found = host_identity(home)
    assert found is not None
    assert found.fleet_addresses == ["127.0.0.1:4711"]


@pytest.mark.parametrize(
    "content",
    ["garbage", "[]", "{}", '{"services": 5}', '{"services": ["nope"]}', '{"services": [], "fleet_port": "x"}'],
)
def test_a_damaged_file_of_what_a_machine_runs_is_named_with_what_to_do(home: Home, content: str) -> None:
    write_private(private_folder(home.state) / "machine.json", content.encode())
    with pytest.raises(PlanDamaged) as found:
        Plan.load(home)
    assert "machine.json does not say what this machine runs" in found.value.what
    assert found.value.next_step.startswith("move ")
