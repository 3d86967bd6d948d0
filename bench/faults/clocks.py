"""Wall clocks that can be set, one a machine, by libfaketime (Debian's package `faketime`). Monotonic clocks are left
alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


class FaketimeMissing(Exception):
    """libfaketime is not installed, and no clock can be set without it: apt-get install faketime."""


def library() -> Path:
    """Return where libfaketime lies. Raises FaketimeMissing."""
    for folder in (Path("/usr/lib"), *Path("/usr/lib").glob("*-linux-gnu")):
        found = folder / "faketime" / "libfaketimeMT.so.1"
        if found.exists():
            return found
    raise FaketimeMissing(FaketimeMissing.__doc__)


class Clocks:
    """The clocks of machines, all right at first."""

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        folder.mkdir()
        self._folder, self._library = folder, library()
        for name in names:
            self.set(name, 0)

    def prefix(self, name: str) -> list[str]:
        """What to put in front of a program so that it runs by that machine's clock, with all that it starts."""
        return [
            "env",
            f"LD_PRELOAD={self._library}",
            f"FAKETIME_TIMESTAMP_FILE={self._folder / name}",
            "FAKETIME_CACHE_DURATION=1",
            "FAKETIME_DONT_FAKE_MONOTONIC=1",
        ]

    def set(self, name: str, ahead: float) -> None:
        """Put a clock so many seconds ahead of the true time; it jumps within a second."""
        path = self._folder / name
        staging = path.with_suffix(".new")
        staging.write_text(f"{ahead:+.0f}\n")
        staging.replace(path)
