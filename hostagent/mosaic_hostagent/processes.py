"""The end of a process, seen at once: a pidfd on Linux, a kqueue elsewhere. Nothing here polls a living process."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import structlog

_LAUNCH_MS = 60_000

log = structlog.get_logger(__name__)

Ended = Callable[[], None]


if sys.platform == "linux":

    class _ExitHandle:
        """A file descriptor that is readable when a process has ended."""

        def __init__(self, pid: int) -> None:
            self.descriptor = os.pidfd_open(pid)

        def close(self) -> None:
            os.close(self.descriptor)

else:

    class _ExitHandle:
        """A file descriptor that is readable when a process has ended."""

        def __init__(self, pid: int) -> None:
            self._queue = select.kqueue()
            self.descriptor = self._queue.fileno()
            event = select.kevent(
                pid,
                filter=select.KQ_FILTER_PROC,
                flags=select.KQ_EV_ADD | select.KQ_EV_ONESHOT,
                fflags=select.KQ_NOTE_EXIT,
            )
            try:
                self._queue.control([event], 0)
            except OSError:
                self._queue.close()
                raise

        def close(self) -> None:
            self._queue.close()


class ExitWatch:
    """Calls `ended` once, on the event loop, when the process `pid` is no more. Close it when nobody needs to know."""

    def __init__(self, pid: int, ended: Ended) -> None:
        self.pid = pid
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._handle: _ExitHandle | None = None
        try:
            self._handle = _ExitHandle(pid)
        except ProcessLookupError:
            self._loop.call_soon(self._tell)
        else:
            self._loop.add_reader(self._handle.descriptor, self._tell)

    def _tell(self) -> None:
        ended = self._ended
        self.close()
        ended()

    def close(self) -> None:
        """Stop watching. May be called twice."""
        self._ended = _nothing
        if self._handle is not None:
            self._loop.remove_reader(self._handle.descriptor)
            self._handle.close()
            self._handle = None


def _nothing() -> None:
    """What is called when nobody wants to know any more."""


async def wait_for_exit(pid: int, seconds: float) -> bool:
    """Wait until the process `pid` is no more; say whether that came within `seconds`."""
    over = asyncio.Event()
    watch = ExitWatch(pid, over.set)
    try:
        async with asyncio.timeout(seconds):
            await over.wait()
    except TimeoutError:
        return False
    finally:
        watch.close()
    return True


def terminal_session(pid: int, *, began_ms: int) -> list[psutil.Process]:
    """Return the processes of the terminal session that `pid` leads: itself, if it lives, and what it started there.

    `began_ms`: when it was launched, by the wall clock. A leader that is much younger is another one with its number.
    """
    found: list[psutil.Process] = []
    try:
        if psutil.Process(pid).create_time() * 1000 > began_ms + _LAUNCH_MS:
            return found
    except psutil.NoSuchProcess:
        pass  # while a process of its session lives, its number is not given to another
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == pid and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (ProcessLookupError, PermissionError, psutil.NoSuchProcess, psutil.AccessDenied):
            continue  # it ended while we looked, or is somebody else's
    return found


async def end_terminal_session(members: list[psutil.Process], *, grace: float) -> int:
    """Wait for the processes to end by themselves, then kill those that have not; return how many were killed.

    `members` were gathered before the terminal was taken from them. psutil knows a reused pid by its start time.
    """
    deadline = asyncio.get_running_loop().time() + grace
    killed = 0
    for process in members:
        left = deadline - asyncio.get_running_loop().time()
        if process.is_running() and not await wait_for_exit(process.pid, max(0.0, left)) and process.is_running():
            try:
                process.send_signal(signal.SIGKILL)
            except psutil.NoSuchProcess:
                continue
            killed += 1
            await wait_for_exit(process.pid, 1.0)
    if killed:
        log.warning("processes of a seat did not end with their terminal and were killed", processes=killed)
    return killed


async def has_terminal(pid: int) -> bool:
    """Say whether the session leader `pid` is in its terminal's foreground, and not a program that it started."""
    return await _group_in_front(pid) == pid


async def foreground_names(pid: int) -> list[str]:
    """Return the names of the processes in the foreground of the terminal of `pid`."""
    group = await _group_in_front(pid)
    names = []
    for process in psutil.process_iter():
        try:
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                names.append(process.name())
        except (ProcessLookupError, PermissionError, psutil.NoSuchProcess, psutil.AccessDenied):
            continue  # it ended while we looked, or is somebody else's
    return names


async def _group_in_front(pid: int) -> int:
    """Return the process group in the foreground of the terminal of `pid`; -1 when it is gone."""
    if sys.platform == "linux":
        return foreground_group(pid)
    process = await asyncio.create_subprocess_exec(
        "ps", "-o", "tpgid=", "-p", str(pid), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    output, _ = await process.communicate()
    return int(output.strip() or b"-1")


def foreground_group(pid: int) -> int:
    """Return the process group in the foreground of a process's terminal, by Linux's /proc; -1 when nobody can say."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return -1
    return int(text.rpartition(")")[2].split()[5])  # the name in parentheses may hold anything
