"""A real `systemd --user` of a test's own, in a cgroup of its own: else it would take every process of the machine.

Needs root, cgroup2 and systemd. Up in 0.1 s; down by killing its cgroup, with all that it ever started.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

SYSTEMD = Path("/lib/systemd/systemd")
_UP_SECONDS = 20.0
_PREFIX = "mosaic-test-"


def missing() -> str:
    """Say why there can be no systemd of a test's own on this machine; empty when there can."""
    if os.geteuid() != 0:
        return "a systemd of its own needs root"
    if not SYSTEMD.exists() or shutil.which("systemctl") is None:
        return "systemd is not installed"
    if any(shutil.which(name) is None for name in ("unshare", "setpriv", "findmnt")):
        return "util-linux is not installed"
    return "" if _cgroup2() is not None else "cgroup2 is not mounted"


def _cgroup2() -> Path | None:
    done = subprocess.run(["findmnt", "-rno", "TARGET", "-t", "cgroup2"], capture_output=True, text=True, check=False)
    first = done.stdout.partition("\n")[0]
    return Path(first) if first and os.access(first, os.W_OK) else None


@dataclass
class UserSystemd:
    """One user manager, where HOME and XDG_RUNTIME_DIR of `environment` are; it may be stopped and started again."""

    folder: Path
    environment: dict[str, str]
    cgroup: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        return self.folder / "systemd.log"

    def start(self) -> None:
        """Start the manager, and wait until it takes calls."""
        self.cgroup.mkdir(exist_ok=True)
        bus = Path(self.environment["XDG_RUNTIME_DIR"]) / "systemd" / "private"
        bus.unlink(missing_ok=True)
        home, runtime = self.environment["HOME"], self.environment["XDG_RUNTIME_DIR"]
        script = f"""
            echo $$ > {self.cgroup}/cgroup.procs
            exec unshare -m -C -u bash -ec '
              mount -t cgroup2 cgroup2 /sys/fs/cgroup
              mount -t tmpfs tmpfs /run/systemd
              mkdir -p /run/systemd/system
              exec env -i PATH=/usr/bin:/bin HOME={home} XDG_RUNTIME_DIR={runtime} \
                SYSTEMD_LOG_TARGET=console setpriv --reuid {os.getuid()} --regid {os.getgid()} --clear-groups \
                {SYSTEMD} --user'
        """
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                ["bash", "-ec", script], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/"
            )
        deadline = time.monotonic() + _UP_SECONDS
        while self._ctl("list-units").returncode != 0:
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            assert time.monotonic() < deadline, self.log.read_text()[-3000:]
            time.sleep(0.02)

    def ctl(self, *arguments: str) -> str:
        """Run `systemctl --user`, which must succeed, and return what it says."""
        done = self._ctl(*arguments)
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}\n{self.log.read_text()[-3000:]}"
        return done.stdout

    def value(self, unit: str, name: str) -> str:
        """Return a property of a unit."""
        return self.ctl("show", "--value", f"--property={name}", unit).strip()

    def _ctl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["systemctl", "--user", "--no-pager", *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env=self.environment,
        )

    def stop(self) -> None:
        """End the manager and everything that it started, as a machine that is switched off would."""
        if self.cgroup.exists():
            (self.cgroup / "cgroup.kill").write_text("1")
        if self.process is not None:
            self.process.wait(20)
        deadline = time.monotonic() + 10
        while self.cgroup.exists() and time.monotonic() < deadline:
            for folder, _names, _files in os.walk(self.cgroup, topdown=False):
                with contextlib.suppress(OSError):  # its last process is not gone yet
                    Path(folder).rmdir()
            time.sleep(0.01)


@contextlib.contextmanager
def user_systemd(folder: Path, environment: dict[str, str]) -> Iterator[UserSystemd]:
    """Lend a user manager on the folders of `folder`; skips, and says why, where there can be none."""
    if reason := missing():
        pytest.skip(reason)
    cgroup2 = _cgroup2()
    assert cgroup2 is not None
    for abandoned in cgroup2.glob(f"{_PREFIX}*"):
        if not psutil.pid_exists(int(abandoned.name.removeprefix(_PREFIX).partition("-")[0])):
            UserSystemd(folder, environment, abandoned).stop()  # a test run that was killed left it
    lent = UserSystemd(folder, environment, cgroup2 / f"{_PREFIX}{os.getpid()}-{folder.name}")
    try:
        lent.start()
        yield lent
    finally:
        lent.stop()
