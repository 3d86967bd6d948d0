"""Heartbeat files: how a program without hooks may say that it lives, and what it does.

Lines `key=value`: `ts` (Unix seconds), `pid`, `status`, and `interval` (seconds, default 15). Healthy is one whose `ts`
is at most three intervals old. It is best replaced whole (written beside, then renamed).
"""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

INTERVAL_SECONDS = 15.0
HEALTHY_INTERVALS = 3
_SIZE_LIMIT = 4096
_STATUS_LIMIT = 80
_LONGEST_INTERVAL = 3600.0

# Words that programs use, and the state that each means. Another word proves life, and no state.
STATES = {
    "starting": "starting",
    "working": "working",
    "busy": "working",
    "running": "working",
    "available": "available",
    "idle": "available",
    "ready": "available",
    "waiting": "waiting",
    "blocked": "waiting",
    "stuck": "stuck",
}


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """One heartbeat. `at`: monotonic seconds; `state` is empty when `status` is no word that we know."""

    at: float
    pid: int
    status: str
    interval: float = INTERVAL_SECONDS
    gone: bool = False
    """the process that wrote it is no more"""

    @property
    def state(self) -> str:
        """The state that it claims."""
        return STATES.get(self.status.lower(), "")

    def is_fresh(self, now: float) -> bool:
        """Whether it is healthy at `now` (monotonic seconds)."""
        return not self.gone and now - self.at <= HEALTHY_INTERVALS * self.interval


def parse(text: str, *, wall: float, monotonic: float) -> Heartbeat | None:
    """Return the heartbeat that `text` holds, read at the moment `wall` and `monotonic` name; None for none."""
    fields = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    try:
        age = wall - float(fields["ts"])
        pid = int(fields.get("pid") or 0)
        interval = float(fields.get("interval") or INTERVAL_SECONDS)
    except (KeyError, ValueError):
        return None
    if not math.isfinite(age) or not 0 < interval <= _LONGEST_INTERVAL or not 0 <= pid < 2**31:
        return None
    # A clock that is ahead cannot make a heartbeat that outlives its program.
    return Heartbeat(monotonic - max(0.0, age), pid, fields.get("status", "").strip()[:_STATUS_LIMIT], interval)


class HeartbeatFile:
    """A seat's heartbeat file, read again only when it has changed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._mark: tuple[int, int, int] | None = None
        self._found: Heartbeat | None = None

    def read(self) -> Heartbeat | None:
        """Return the newest heartbeat, or None when there is none that can be read."""
        try:
            found = self._path.stat()
        except OSError:
            self._mark = self._found = None
            return None
        mark = (found.st_ino, found.st_mtime_ns, found.st_size)
        if mark != self._mark:
            self._mark = mark
            self._found = self._parsed()
        if self._found is not None and self._found.pid > 0:
            return replace(self._found, gone=not psutil.pid_exists(self._found.pid))
        return self._found

    def _parsed(self) -> Heartbeat | None:
        try:
            file = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            text = os.read(file, _SIZE_LIMIT).decode(errors="replace")
        except OSError:  # a folder, or a pipe that nobody writes into: no heartbeat
            return None
        finally:
            os.close(file)
        return parse(text, wall=time.time(), monotonic=time.monotonic())
