"""The processes of a terminal session on Linux, seen and ended with the standard library alone (see plain.py)."""

from __future__ import annotations

import os
import select
import signal
import time

_LAUNCH_SECONDS = 60.0


class Member:
    """One process, known by its pid and the clock tick of its start: a reused pid is another process."""

    __slots__ = ("pid", "start")

    def __init__(self, pid: int, start: int) -> None:
        self.pid, self.start = pid, start


def terminal_members(leader: int, began: float) -> list[Member]:
    """Return the processes of the terminal session that `leader` leads, itself too if it lives.

    `began`: when it was launched, by the wall clock. A leader that is much younger is another one with its number.
    """
    stat = _stat(leader)
    if stat is not None and _started_at(stat[1]) > began + _LAUNCH_SECONDS:
        return []
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208 - see plain.py
    seen = [(pid, _stat(pid)) for pid in pids]
    return [Member(pid, stat[1]) for pid, stat in seen if stat is not None and stat[0] == leader]


def end_members(members: list[Member], grace: float) -> None:
    """Wait until they have ended by themselves, for `grace` seconds at most; then kill those that have not."""
    deadline = time.monotonic() + grace
    for one in members:
        if not _gone(one, deadline):
            try:
                os.kill(one.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
            _gone(one, time.monotonic() + 1.0)


def _gone(one: Member, deadline: float) -> bool:
    try:
        handle = os.pidfd_open(one.pid)
    except ProcessLookupError:
        return True
    try:
        stat = _stat(one.pid)
        if stat is None or stat[1] != one.start:
            return True
        ready, _, _ = select.select([handle], [], [], max(0.0, deadline - time.monotonic()))
        return bool(ready)
    finally:
        os.close(handle)


def _stat(pid: int) -> tuple[int, int] | None:
    """Return (session, start in ticks since boot) of a living process; None when it is gone or a zombie."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in (b"Z", b"X") else (int(fields[3]), int(fields[19]))


def _started_at(ticks: int) -> float:
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    return time.time() - age
