"""Boot for real, systemd as PID 1: a lingering user's seats return with nobody logged in; others' do not."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.booted_machine import BootedMachine, booted_machine, home_folder
from tests.support.checkout import ROOT
from tests.support.seats import nap

RUNTIME = f"/run/user/{os.getuid()}"


@pytest.fixture
def machine() -> Iterator[BootedMachine]:
    with booted_machine() as machine:
        yield machine


def count(machine: BootedMachine) -> int:
    """How many of the seat's programs run on the machine."""
    found = machine.run("pgrep", "-cxf", " ".join(nap(7501)))
    return int(found.stdout)


def until_settled(machine: BootedMachine) -> None:
    """Wait until the machine has started what it starts: no job is left, of the system's or of a user's manager."""
    deadline = time.monotonic() + 30
    while True:
        jobs = [machine.run("systemctl", "list-jobs", "--no-legend")]
        if machine.run("test", "-S", f"{RUNTIME}/systemd/private").returncode == 0:
            jobs.append(machine.run("systemctl", "--user", "list-jobs", "--no-legend", XDG_RUNTIME_DIR=RUNTIME))
        if all(job.returncode == 0 and job.stdout.strip() in ("", "No jobs running.") for job in jobs):
            return
        assert time.monotonic() < deadline, str(jobs)
        time.sleep(0.05)


def linger_finding(machine: BootedMachine) -> dict[str, str]:
    """What `mosaic doctor` finds of linger on the machine."""
    command = ["env", f"--chdir={ROOT}", sys.executable, "-m", "mosaic_cli.main", "doctor", "-o", "json"]
    said = machine.run(*command, XDG_RUNTIME_DIR=RUNTIME, MOSAIC_HOME=f"{home_folder()}/mosaic", LANG="C.UTF-8")
    (found,) = [item for item in json.loads(said.stdout)["items"] if item["check"] == "linger"]
    return dict(found)


def test_a_lingering_users_seat_returns_at_boot_with_nobody_logged_in(machine: BootedMachine) -> None:
    machine.boot()
    assert machine.run("loginctl", "list-users", "--no-legend").stdout == ""
    tmux = f"{home_folder()}/mosaic-tmux"
    machine.run("mkdir", "-m", "700", "-p", tmux)
    start = ["env", f"--chdir={ROOT}", sys.executable, "-m", "tests.support.lingering_seat"]
    made = machine.run(
        *start,
        f"{home_folder()}/mosaic",
        *nap(7501),
        XDG_RUNTIME_DIR=RUNTIME,
        TMUX_TMPDIR=tmux,
        LANG="C.UTF-8",
    )
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout) == {"kind": "systemd", "unit": "mosaic-agent@a.service", "enabled": True}
    assert count(machine) == 1

    machine.switch_off()
    machine.boot()
    until_settled(machine)
    assert count(machine) == 1

    # Without linger it does not: doctor says so, and its repair brings linger back.
    machine.run("loginctl", "disable-linger", "root")
    found = linger_finding(machine)
    assert (found["level"], found["repair"]) == ("wrong", "sudo loginctl enable-linger root")
    machine.run(*found["repair"].removeprefix("sudo ").split())
    assert linger_finding(machine)["level"] == "well"
    machine.run("loginctl", "disable-linger", "root")
    machine.switch_off()
    machine.boot()
    until_settled(machine)
    assert count(machine) == 0


def test_a_second_tenants_user_made_as_the_guide_says_has_its_seats_back_at_boot(machine: BootedMachine) -> None:
    machine.boot()
    guide = [line.strip() for line in (ROOT / "docs" / "tenants.md").read_text().splitlines()]
    shown = [line for line in guide if line.startswith(("useradd ", "loginctl "))]
    assert len(shown) == 2
    for command in shown:
        done = machine.run("bash", "-ec", command)
        assert done.returncode == 0, f"$ {command}\n{done.stderr}"
    uid = machine.run("id", "-u", "acme").stdout.strip()
    runtime = f"/run/user/{uid}"
    deadline = time.monotonic() + 30
    while machine.run("test", "-S", f"{runtime}/systemd/private").returncode != 0:
        assert time.monotonic() < deadline, machine.log.read_text()[-3000:]
        time.sleep(0.05)
    for path in (Path(sys.base_prefix), Path(sys.prefix), ROOT):  # on a real machine they are where all may read
        machine.run("chmod", "o+x", *map(str, path.resolve().parents))

    def as_acme(*argv: str) -> list[str]:
        environment = ["HOME=/home/acme", "USER=acme", f"XDG_RUNTIME_DIR={runtime}", "TMUX_TMPDIR=/home/acme/tmux"]
        return ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--init-groups", "env", *environment, *argv]

    def seats() -> int:
        return int(machine.run("pgrep", "-u", "acme", "-cxf", " ".join(nap(7502))).stdout)

    machine.run(*as_acme("mkdir", "-m", "700", "/home/acme/tmux"))
    start = ["LANG=C.UTF-8", "env", f"--chdir={ROOT}", sys.executable, "-m", "tests.support.lingering_seat"]
    made = machine.run(*as_acme(*start, "/home/acme/.config/mosaic", *nap(7502)))
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout)["enabled"] is True
    assert seats() == 1
    machine.switch_off()
    machine.boot()
    until_settled(machine)
    deadline = time.monotonic() + 30
    while seats() != 1:
        assert time.monotonic() < deadline, machine.log.read_text()[-3000:]
        time.sleep(0.05)
