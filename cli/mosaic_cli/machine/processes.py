"""Processes that outlive the command that started them, known by pid and start time: a reused pid is no match."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from mosaic_framework.paths import write_private


@dataclass(frozen=True, slots=True)
class Process:
    """One process. `start` is opaque; a process with this pid and another start is another process."""

    pid: int
    start: str

    @classmethod
    def running(cls, pid: int) -> Process | None:
        """Return the process that has this pid now; None when there is none, or only a zombie."""
        start = _start(pid)
        return cls(pid, start) if start else None

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return Process.running(self.pid) == self

    def signal(self, number: signal.Signals) -> bool:
        """Send a signal if it still runs; returns whether it did. Raises PermissionError for another user's process."""
        if not self.alive:
            return False
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            return False
        return True


def record(path: Path, process: Process) -> None:
    """Write a pid file."""
    write_private(path, json.dumps(asdict(process)).encode())


def recorded(path: Path) -> Process | None:
    """Return the process of a pid file while it runs; None for no file, rubbish, or a process that is gone."""
    try:
        content = json.loads(path.read_text("utf-8"))
        process = Process(int(content["pid"]), str(content["start"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return process if process.alive else None


def wait_gone(processes: Iterable[Process], timeout: float) -> list[Process]:
    """Wait until all have ended. Returns those that still run after `timeout` seconds. A zombie has ended."""
    waiting = [process for process in processes if process.alive]
    if sys.platform == "linux":
        _wait_by_pidfd(waiting, timeout)
    else:
        import psutil

        handles = [psutil.Process(process.pid) for process in waiting if psutil.pid_exists(process.pid)]
        psutil.wait_procs(handles, timeout=timeout)
    return [process for process in waiting if process.alive]


def _wait_by_pidfd(processes: Iterable[Process], timeout: float) -> None:
    """A pidfd becomes readable when its process ends, however long nobody takes note of the zombie."""
    deadline = time.monotonic() + timeout
    with contextlib.ExitStack() as stack:
        poll, left = select.poll(), set[int]()
        for process in processes:
            try:
                handle = os.pidfd_open(process.pid)
            except ProcessLookupError:
                continue
            stack.callback(os.close, handle)
            if process.alive:  # else the pid has been given to another between the two looks
                poll.register(handle, select.POLLIN)
                left.add(handle)
        while left and (remaining := deadline - time.monotonic()) > 0:
            for handle, _event in poll.poll(remaining * 1000):
                poll.unregister(handle)
                left.discard(handle)


def end(processes: Iterable[Process], *, grace: float) -> list[Process]:
    """Ask processes to end, then make them after `grace` seconds. Returns those that could not be ended."""
    asked = [process for process in processes if process.signal(signal.SIGTERM)]
    stubborn = [process for process in wait_gone(asked, grace) if process.signal(signal.SIGKILL)]
    return wait_gone(stubborn, 5.0)


def _start(pid: int) -> str:
    if sys.platform == "linux":
        try:
            fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        except OSError:
            return ""
        # Field 3 is the state, field 22 the start in clock ticks since boot; a name may hold blanks and brackets.
        return "" if fields[0] in (b"Z", b"X") else f"{_boot_id()}:{fields[19].decode()}"
    import psutil

    try:
        process = psutil.Process(pid)
        return "" if process.status() == psutil.STATUS_ZOMBIE else repr(process.create_time())
    except psutil.Error:
        return ""


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()[:8]
