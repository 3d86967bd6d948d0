"""What still runs of a home: by pid file, and by the mark that every process of ours carries in its environment."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from mosaic_framework.paths import Home

from mosaic_cli.machine.processes import Process, end, recorded
from mosaic_cli.machine.services import ALL, HOSTAGENT, MARK, pid_file

_GRACE = 15.0
"""Seconds a service without its supervisor gets to stop."""


@dataclass(frozen=True, slots=True)
class Leftover:
    """A process that carries our mark. `is_tmux`: a tmux server; `in_tmux`: below one, so the server ends it."""

    process: Process
    service: str
    command: str
    is_tmux: bool = False
    in_tmux: bool = False


def recorded_services(home: Home) -> dict[str, Process]:
    """Return the services whose pid file names a process that still runs, in the order in which they start."""
    found = {name: recorded(pid_file(home, name)) for name in ALL}
    return {name: process for name, process in found.items() if process is not None}


def end_services(home: Home) -> list[str]:
    """End the services that no supervisor watches any more, last started first. Agents' sessions are left alone.

    Returns what was ended. The caller holds the supervisor's lock, or has made sure that there is none.
    """
    ended = []
    known = recorded_services(home)
    for name in reversed(ALL):
        marked = [item.process for item in marked_processes(home) if item.service == name and not _of_a_seat(item)]
        processes = {process for process in [known.get(name), *marked] if process is not None}
        if processes:
            end(processes, grace=_GRACE)
            ended.append(name)
        pid_file(home, name).unlink(missing_ok=True)
    return ended


def marked_processes(home: Home, *, wanted: Callable[[Leftover], bool] = lambda _item: True) -> list[Leftover]:
    """Return the processes of this home by their mark, this command and its ancestors aside.

    Only what this user may look at is found; under root that is everything.
    """
    import psutil

    mine = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    found = []
    for handle in psutil.process_iter():
        if handle.pid in mine:
            continue
        try:
            environment = handle.environ()
            if environment.get("MOSAIC_HOME") != str(home.root) or not environment.get(MARK):
                continue
            process = Process.running(handle.pid)
            if process is None:
                continue
            item = Leftover(
                process,
                environment[MARK],
                " ".join(handle.cmdline())[:120] or handle.name(),
                is_tmux=_is_tmux(handle),
                in_tmux=any(_is_tmux(parent) for parent in handle.parents()),
            )
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
        if wanted(item):
            found.append(item)
    return found


def _of_a_seat(item: Leftover) -> bool:
    """Whether it belongs to a session, or was started from one: the host-agent's mark is inherited there."""
    return item.service == HOSTAGENT and (item.is_tmux or item.in_tmux or "mosaic-hostagent" not in item.command)


def _is_tmux(handle: object) -> bool:
    name = handle.name()  # type: ignore[attr-defined]
    return isinstance(name, str) and name.startswith("tmux")
