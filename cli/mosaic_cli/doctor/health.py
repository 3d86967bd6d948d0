"""What the programs of this machine say of themselves: one that runs may hang, or be cut off from what it needs."""

from __future__ import annotations

import time
from collections.abc import Iterator

from mosaic_framework import health
from mosaic_framework.errors import FleetError
from mosaic_framework.health import Health
from mosaic_framework.paths import Home

from mosaic_cli.doctor.finding import WELL, WRONG, Finding
from mosaic_cli.machine.services import CONTROLPLANE, HOSTAGENT

_SETTLES_WITHIN = 3.0
"""Seconds in which a program that has just started gets ready."""
_LOOKS_EVERY = 0.2
_WORDS = {CONTROLPLANE: "control plane", HOSTAGENT: "host-agent"}


def check(home: Home) -> Iterator[Finding]:
    """Ask each program of this home that says where it can be asked, and still runs."""
    for name in (CONTROLPLANE, HOSTAGENT):
        pid = health.process_told(home, name)
        if pid is None:
            continue  # it does not run, or is told to say nothing
        try:
            found = _settled(home, name)
        except FleetError as error:
            found = Health(alive=False, ready=False, why=error.why)
        yield judge(name, pid, found, stopped=_is_stopped(pid))


def judge(name: str, pid: int, found: Health, *, stopped: bool) -> Finding:
    """Say whether a program does its work. `stopped`: a signal holds it."""
    what = f"the {_WORDS[name]} (process {pid})"
    if stopped:
        return Finding("health", WRONG, f"{what} is stopped by a signal: it does nothing", f"kill -CONT {pid}")
    if not found.alive:
        repair = f"kill -KILL {pid} (it is started anew; agents run on)"
        return Finding("health", WRONG, f"{what} hangs: {found.why}", repair)
    if not found.ready:
        text = f"{what} runs and is not ready: {found.why}"
        return Finding("health", WRONG, text, "what stands here as wrong; else its log: mosaic status -o wide")
    return Finding("health", WELL, f"the {_WORDS[name]} is ready")


def _settled(home: Home, name: str) -> Health:
    deadline = time.monotonic() + _SETTLES_WITHIN
    while True:
        found = health.ask(home, name)
        if found.ready or time.monotonic() > deadline:
            return found
        time.sleep(_LOOKS_EVERY)


def _is_stopped(pid: int) -> bool:
    import psutil

    try:
        return psutil.Process(pid).status() == psutil.STATUS_STOPPED
    except psutil.Error:
        return False
