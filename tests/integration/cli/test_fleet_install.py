"""`mosaic fleet install`, `verify` and `uninstall`, and `up` and `down` beside them, on a real `systemd --user`."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.machine import Machine
from tests.support.user_systemd import UserSystemd, user_systemd

pytestmark = pytest.mark.timeout(180)


FILES = (
    "mosaic-hostagent.service",
    "mosaic-agent@.service",
    "mosaic-holder@.service",
    "mosaic-controlplane.service",
    "mosaic-register.service",
    "units.env",
    "controlplane.env",
)


class Supervised(Machine):
    """A machine with a user manager."""

    systemd: UserSystemd

    def units(self) -> Path:
        return Path(self.environment["HOME"]) / ".config" / "systemd" / "user"

    def pids(self) -> dict[str, int]:
        return {item["name"]: item["pid"] for item in self.json("fleet", "ps")["items"]}

    def verified(self) -> dict[str, Any]:
        return {item["agent"]: item for item in self.json("fleet", "verify")["items"]}

    def install(self, *arguments: str) -> dict[str, str]:
        done = self.json("fleet", "install", *arguments)
        return {item["name"]: item["change"] for item in done["items"] if item["name"] in FILES and item["path"]}


def until(condition: Callable[[], object], what: str, *, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"never happened: {what}"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Supervised]:
    """A machine that is up with two shells, and has a manager; nothing is installed yet."""
    folder = tmp_path_factory.mktemp("sd")
    found = Supervised(folder)
    with user_systemd(folder, found.environment) as found.systemd:
        try:
            found.up()
            found.apply("coder-0", "clerk")
            yield found
        finally:
            found.mosaic("fleet", "uninstall")
            found.close()


def test_the_whole_life_of_seats_under_systemd(machine: Supervised) -> None:
    before = machine.pids()
    own = machine.units() / "somebodys.service"
    own.parent.mkdir(parents=True)
    own.write_text("[Service]\nExecStart=/bin/true\n")

    env_file = machine.home.fleet / "agents" / "clerk.env"
    env_file.unlink()

    # Installed: the seats run on, and are units.
    assert set(machine.install().values()) == {"written"}
    assert machine.mosaic("fleet", "verify").returncode == 0
    assert {name: item["pid"] for name, item in machine.verified().items()} == before
    assert {item["supervision"] for item in machine.verified().values()} == {"systemd"}
    assert machine.systemd.value("mosaic-agent@coder\\x2d0.service", "ActiveState") == "active"
    assert machine.mosaic("status").returncode == 0

    # Each seat's program was looked for, and stands in its env file.
    assert "MOSAIC_SEAT_PROGRAM=" in env_file.read_text()

    # Again: nothing changes. Drifted: that is refreshed, and nothing else.
    agent = machine.systemd.value("mosaic-agent@clerk.service", "MainPID")
    assert set(machine.install().values()) == {"unchanged"}
    (machine.units() / "mosaic-agent@.service").write_text("# edited\n")
    assert machine.install("--dry-run")["mosaic-agent@.service"] == "refreshed"
    changes = machine.install()
    assert [name for name, change in changes.items() if change != "unchanged"] == ["mosaic-agent@.service"]
    assert machine.systemd.value("mosaic-agent@clerk.service", "MainPID") == agent
    assert own.read_text() == "[Service]\nExecStart=/bin/true\n"

    # A dead program is told as dead, whatever its unit says, and comes back.
    os.kill(before["clerk"], signal.SIGKILL)
    verdict = machine.verified()["clerk"]
    assert (verdict["lives"], bool(verdict["problem"])) in ((False, True), (True, False))  # it may be back already
    until(lambda: machine.pids()["clerk"] not in (None, before["clerk"]), "clerk is back")
    assert machine.pids()["coder-0"] == before["coder-0"]

    # A host-agent that hangs is ended by its watchdog and begun anew; the seats are the same.
    running = machine.pids()
    override = machine.units() / "mosaic-hostagent.service.d" / "soon.conf"
    override.parent.mkdir()
    override.write_text("[Service]\nWatchdogSec=4\nTimeoutAbortSec=1\nRestartSec=100ms\n")
    machine.systemd.ctl("daemon-reload")
    machine.systemd.ctl("restart", "mosaic-hostagent.service")
    hung = int(machine.systemd.value("mosaic-hostagent.service", "MainPID"))
    os.kill(hung, signal.SIGSTOP)
    until(
        lambda: machine.systemd.value("mosaic-hostagent.service", "MainPID") not in ("0", str(hung)), "another one runs"
    )
    until(lambda: machine.pids() == running, "it has the same seats")

    # `down` and `up` leave them alone, and say so.
    down = machine.mosaic("down", "--yes")
    assert (down.returncode, "kept by systemd and run on" in down.stderr) == (0, True)
    assert machine.mosaic("fleet", "verify").returncode == 0
    assert all(psutil.pid_exists(pid) for pid in running.values())
    machine.up()
    until(lambda: machine.pids() == running, "they are the same seats")

    # Uninstalled: the seats run on under the built-in supervision; nothing of ours is left to systemd.
    assert machine.mosaic("fleet", "uninstall").returncode == 0
    until(lambda: machine.json("host", "ls")["items"][0]["state"] == "live", "the host-agent is back")
    until(lambda: machine.pids() == running, "they are the same seats")
    assert {item["supervision"] for item in machine.verified().values()} == {"built-in"}
    assert sorted(path.name for path in machine.units().iterdir()) == [
        "mosaic-hostagent.service.d",  # somebody's own
        "somebodys.service",
    ]
    again = machine.mosaic("fleet", "uninstall")
    assert (again.returncode, "nothing is installed" in again.stderr) == (0, True)


def test_register_and_control_plane_are_units_that_come_back_from_death_and_boot(machine: Supervised) -> None:
    address = json.loads((machine.home.run / "controlplane.json").read_text())["fleet_address"]
    assert set(machine.install().values()) == {"written"}
    try:
        # Hosts find the control plane where it was, and the supervisor has nothing left to keep.
        until(lambda: machine.mosaic("fleet", "ps").returncode == 0, "the fleet is seen")
        assert json.loads((machine.home.run / "controlplane.json").read_text())["fleet_address"] == address
        states = {item["name"]: (item["state"], "systemd" in item["where"]) for item in machine.json("status")["items"]}
        assert {name: states[name] for name in ("database", "controlplane", "hostagent")} == dict.fromkeys(
            ("database", "controlplane", "hostagent"), ("running", True)
        )
        assert machine.mosaic("doctor").returncode in (0, 1)

        # Killed, each comes back.
        for unit in ("mosaic-register.service", "mosaic-controlplane.service"):
            died = machine.systemd.value(unit, "MainPID")
            os.kill(int(died), signal.SIGKILL)
            until(lambda: machine.systemd.value(unit, "MainPID") not in ("0", died), f"{unit} is back")  # noqa: B023
        until(lambda: machine.mosaic("fleet", "ps").returncode == 0, "the fleet is seen again")

        # A control plane that hangs is ended by its watchdog.
        override = machine.units() / "mosaic-controlplane.service.d" / "soon.conf"
        override.parent.mkdir()
        override.write_text("[Service]\nWatchdogSec=4\nTimeoutAbortSec=1\nRestartSec=100ms\n")
        machine.systemd.ctl("daemon-reload")
        machine.systemd.ctl("restart", "mosaic-controlplane.service")
        hung = machine.systemd.value("mosaic-controlplane.service", "MainPID")
        os.kill(int(hung), signal.SIGSTOP)
        until(
            lambda: machine.systemd.value("mosaic-controlplane.service", "MainPID") not in ("0", hung),
            "another one runs",
        )

        # The machine goes down and boots: nobody types anything.
        assert "kept by systemd" in machine.mosaic("down", "--yes").stderr
        machine.systemd.stop()
        machine.systemd.start()
        until(lambda: machine.mosaic("fleet", "ps").returncode == 0, "the fleet is back")
        assert machine.mosaic("status").returncode == 0
        assert machine.mosaic("up").returncode == 0
    finally:
        assert machine.mosaic("fleet", "uninstall").returncode == 0
        shutil.rmtree(machine.units() / "mosaic-controlplane.service.d", ignore_errors=True)
    until(lambda: machine.mosaic("fleet", "ps").returncode == 0, "the supervisor keeps it again")
    assert not list(machine.units().glob("mosaic-*.service"))


def test_another_home_of_the_user_cannot_take_the_units(machine: Supervised, tmp_path: Path) -> None:
    unit = machine.units() / "mosaic-hostagent.service"
    unit.parent.mkdir(parents=True, exist_ok=True)
    unit.write_text("# MOSAIC_HOME=/some/other/home\n")
    try:
        refused = machine.mosaic("fleet", "install")
        assert (refused.returncode, "/some/other/home" in refused.stderr) == (6, True)
        assert unit.read_text() == "# MOSAIC_HOME=/some/other/home\n"
    finally:
        unit.unlink()


def test_without_systemd_the_built_in_supervision_is_chosen_and_told(machine: Supervised) -> None:
    runtime = machine.environment["XDG_RUNTIME_DIR"]
    machine.environment["XDG_RUNTIME_DIR"] = f"{runtime}/none"
    try:
        chosen = machine.mosaic("fleet", "install")
        assert (chosen.returncode, "systemd cannot be used" in chosen.stderr) == (0, True)
        forced = machine.mosaic("fleet", "install", "--supervision", "systemd")
        assert (forced.returncode, "systemd-missing" in forced.stderr) == (1, True)
    finally:
        machine.environment["XDG_RUNTIME_DIR"] = runtime
