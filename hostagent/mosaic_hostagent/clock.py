"""Moments that can be compared after a restart: on the monotonic clock within one boot, else on the wall clock."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import psutil

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Stamp:
    """A moment. Milliseconds; `monotonic_ms` means something only in the boot that `boot` names."""

    boot: str
    monotonic_ms: int
    wall_ms: int

    def later(self, milliseconds: int) -> Stamp:
        """Return the moment `milliseconds` after this one."""
        return Stamp(self.boot, self.monotonic_ms + milliseconds, self.wall_ms + milliseconds)

    def until(self, other: Stamp) -> int:
        """Return the milliseconds from here to `other`, negative when that lies before."""
        if self.boot == other.boot:
            return other.monotonic_ms - self.monotonic_ms
        return other.wall_ms - self.wall_ms


class Clock:
    """This machine's clocks. The monotonic one goes on while the machine sleeps, as a deadline does."""

    def __init__(self) -> None:
        self._boot = _boot_id()
        self._source = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

    def now(self) -> Stamp:
        """Return this moment."""
        return Stamp(self._boot, time.clock_gettime_ns(self._source) // 1_000_000, time.time_ns() // 1_000_000)


def _boot_id() -> str:
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return f"booted-{int(psutil.boot_time())}"
