"""This user's systemd, as far as `mosaic` asks it: `systemctl --user` by argument vector, and linger."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

from mosaic_framework import units
from mosaic_framework.errors import FleetError
from mosaic_framework.paths import Home
from mosaic_framework.users import user_name

_SECONDS = 330.0
"""Longer than a unit may take to stop: see TimeoutStopSec in the units."""
_MANAGER_SECONDS = 15.0
_BOOTED = Path("/run/systemd/system")
"""Is there where systemd is PID 1 (see `man sd_booted`)."""


class SystemdFails(FleetError):
    """systemd did not do what was asked."""

    code = "systemd-refused"


def systemd_runs_hostagent(home: Home) -> bool:
    """Whether the host-agent and the seats of `home` are units, and not ours to start."""
    return units.read_supervision(home) == units.SYSTEMD


def systemd_runs_controlplane(home: Home) -> bool:
    """Whether register and control plane of `home` are units, and not ours to start."""
    return units.runs_controlplane(home)


def environment() -> dict[str, str]:
    """Return an environment in which systemctl finds the user's manager, as pam_systemd would set it."""
    usual = Path(f"/run/user/{os.getuid()}")
    found = dict(os.environ)
    if not found.get("XDG_RUNTIME_DIR") and usual.is_dir():
        found["XDG_RUNTIME_DIR"] = str(usual)
    return found


def why_not() -> str:
    """Say why this user's systemd cannot be used; empty when it can."""
    if shutil.which("systemctl") is None:
        return "there is no systemctl on this machine"
    try:
        done = _call("show", "--property=Version", "--value")
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if done.returncode:
        return " ".join(done.stderr.split())[:300] or f"systemctl --user ended with {done.returncode}"
    return ""


def bring_up() -> str:
    """Let this user's manager run, by linger where nobody is logged in. Says why not; empty when it runs."""
    reason = why_not()
    if not reason or not _BOOTED.is_dir() or let_linger():
        return reason
    deadline = time.monotonic() + _MANAGER_SECONDS
    while (reason := why_not()) and time.monotonic() < deadline:
        time.sleep(0.1)  # logind starts the manager in its own time, and tells nobody who has no bus yet
    return reason


def systemctl(*arguments: str) -> str:
    """Run `systemctl --user` and return what it prints. Raises SystemdFails."""
    try:
        done = _call(*arguments)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SystemdFails(f"systemctl --user {arguments[0]} did not run", why=str(error)) from error
    if done.returncode:
        raise SystemdFails(
            f"systemd did not {arguments[0]} {arguments[-1]}",
            why=" ".join(done.stderr.split())[:300],
            next_step=f"journalctl --user -n 20 -u '{arguments[-1]}'",
        )
    return done.stdout


def loaded_units(template: str) -> list[str]:
    """Return the instances of a template that systemd knows of: they run, wait, or have failed."""
    pattern = template.replace("@.", "@*.")
    text = systemctl("list-units", "--all", "--plain", "--no-legend", "--no-pager", pattern)
    names = [line.split()[0] for line in text.splitlines() if line.split()]
    return [name.removeprefix("●") for name in names if name != template]


def state_of(unit: str) -> str:
    """Return a unit's state, e.g. `active`; why it is unknown where systemd does not answer."""
    try:
        return systemctl("show", "--property=ActiveState", "--value", unit).strip()
    except SystemdFails as error:
        return f"unknown: {error.why}"


def let_linger() -> str:
    """Let this user's units start at boot. Returns an empty text, or why not with the command to run."""
    user = user_name()
    if units.lingers(user):
        return ""
    try:
        done = subprocess.run(
            ["loginctl", "--no-ask-password", "enable-linger", user],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        said = " ".join(done.stderr.split())[:200]
    except (OSError, subprocess.TimeoutExpired) as error:
        said = str(error)
    if units.lingers(user):
        return ""
    return f"{said or 'loginctl did not do it'}; run: sudo loginctl enable-linger {user}"


def _call(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemctl", "--user", "--no-ask-password", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
        env=environment(),
    )
