"""script/bootstrap installs what is missing when it may, and otherwise says the one command to run."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.checkout import ROOT

TOOLS = ("sh", "true", "dirname", "sed", "mktemp", "cat", "rm", "env", "touch", "cp", "chmod")


class Machine:
    """A machine in a folder: a clone, and only those programs that the test gives it."""

    def __init__(self, folder: Path) -> None:
        self.programs = folder / "bin"
        self.programs.mkdir()
        self.clone = folder / "a clone with spaces"
        (self.clone / "script").mkdir(parents=True)
        shutil.copy(ROOT / "script" / "bootstrap", self.clone / "script")
        for tool in TOOLS:
            found = shutil.which(tool)
            assert found
            (self.programs / tool).symlink_to(found)
        self.has("uname", "echo Linux")
        self.log = folder / "log"
        self.log.touch()

    def has(self, program: str, does: str) -> None:
        path = self.programs / program
        path.write_text(f"#!/bin/sh\n{does}\n")
        path.chmod(0o755)

    def is_user(self, number: int) -> None:
        self.has("id", f"echo {number}")

    def has_apt(self, *, lists: bool = True) -> None:
        """An apt-get that writes down what it is asked, and installs a tmux that works; without lists, after update."""
        ready = self.log.with_name("lists")
        if lists:
            ready.touch()
        self.has(
            "apt-get",
            f'echo "$@" >> {self.log}\n'
            f"case $1 in update) touch {ready} ;;\n"
            f"install) [ -e {ready} ] || exit 100\n"
            f"printf '#!/bin/sh\\necho tmux 3.4\\n' > {self.programs}/tmux; chmod +x {self.programs}/tmux ;; esac",
        )

    def bootstrap(self) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.clone / "script" / "bootstrap")],
            env={"PATH": str(self.programs), "MOSAIC_PYTHON": "/nonexistent/python"},
            cwd="/",
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_without_tmux_and_without_rights_it_says_the_one_command_and_stops(machine: Machine) -> None:
    machine.is_user(1000)
    machine.has_apt()
    done = machine.bootstrap()
    assert done.returncode == 1
    assert done.stderr == "bootstrap: tmux is missing; run: sudo apt-get install -y tmux\n"
    assert machine.log.read_text() == ""


def test_sudo_that_would_ask_for_a_password_counts_as_no_right(machine: Machine) -> None:
    machine.is_user(1000)
    machine.has_apt()
    machine.has("sudo", '[ "$1" = -n ] && exit 1; echo asked; exit 0')
    done = machine.bootstrap()
    assert done.returncode == 1
    assert "sudo apt-get install -y tmux" in done.stderr


def test_as_root_tmux_is_installed_after_an_update_where_the_lists_are_missing(machine: Machine) -> None:
    machine.is_user(0)
    machine.has_apt(lists=False)
    done = machine.bootstrap()
    install = "install -y --no-install-recommends tmux"
    assert machine.log.read_text().splitlines() == [install, "update", install]
    assert "no Python 3.11 to 3.14 among: /nonexistent/python" in done.stderr  # it went on


def test_with_passwordless_sudo_tmux_is_installed(machine: Machine) -> None:
    machine.is_user(1000)
    machine.has_apt()
    machine.has("sudo", '[ "$1" = -n ] || exit 1; shift; exec "$@"')
    machine.bootstrap()
    assert machine.log.read_text().splitlines() == ["install -y --no-install-recommends tmux"]


def test_an_install_that_fails_shows_why_and_stops(machine: Machine) -> None:
    machine.is_user(0)
    machine.has("apt-get", "echo E: no such package >&2; exit 100")
    done = machine.bootstrap()
    assert done.returncode == 1
    assert "E: no such package" in done.stderr
    assert done.stderr.endswith("bootstrap: apt-get install tmux failed\n")


def test_on_macos_tmux_comes_from_brew(machine: Machine) -> None:
    machine.has("uname", "echo Darwin")
    machine.is_user(501)
    machine.has("brew", f'echo "$@" >> {machine.log}; exit 1')
    machine.bootstrap()
    assert machine.log.read_text() == "install tmux\n"


def test_without_any_package_manager_it_stops_and_names_what_is_missing(machine: Machine) -> None:
    machine.is_user(1000)
    done = machine.bootstrap()
    assert done.returncode == 1
    assert "tmux is missing" in done.stderr


@pytest.mark.parametrize(
    ("version", "enough"),
    [("tmux 3.1c", False), ("tmux 2.9", False), ("tmux 3.2", True), ("tmux 3.3a", True), ("tmux next-3.6", True)],
)
def test_tmux_older_than_3_2_is_refused(machine: Machine, version: str, enough: bool) -> None:
    machine.is_user(1000)
    machine.has("tmux", f"echo {version}")
    done = machine.bootstrap()
    assert done.returncode == 1
    assert ("is too old" in done.stderr) is not enough
    assert ("no Python" in done.stderr) is enough
