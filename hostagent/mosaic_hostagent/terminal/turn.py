"""The turn at a tmux server among processes: the host-agent attaches a client, or a seat's unit starts or ends it.

Standard library only: there is one process for each seat's unit. See attaching.py.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing costs a megabyte a process
    from collections.abc import Iterator

SECONDS = 10.0
"""Longer nobody waits: a process that hangs with the turn must not keep an agent from being started."""

PAUSE = 0.005
"""Seconds between two looks at a lock: who waits in flock itself is woken at once, but cannot give up in time."""


def wanted(path: str) -> str:
    """Return the lock that the host-agent holds from when it waits for its turn: no unit begins one then."""
    return f"{path}.wanted"


def take(path: str, how: int = fcntl.LOCK_EX) -> int:
    """Return a handle whose end gives the lock back; -1 while another process has it. Raises OSError."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(handle, how | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return -1
    except BaseException:
        os.close(handle)
        raise
    return handle


@contextlib.contextmanager
def taken(path: str) -> Iterator[None]:
    """Have a unit's turn, with other units, or go on without it.

    That is after SECONDS, and where the lock cannot be made or opened: no host-agent has been since the machine booted.
    """
    handle, deadline = -1, time.monotonic() + SECONDS
    with contextlib.suppress(OSError):
        while path and (handle := _unit(path)) < 0 and time.monotonic() < deadline:
            time.sleep(PAUSE)
    try:
        yield
    finally:
        if handle >= 0:
            os.close(handle)


def _unit(path: str) -> int:
    if (free := take(wanted(path), fcntl.LOCK_SH)) < 0:
        return -1
    os.close(free)
    return take(path, fcntl.LOCK_SH)
