"""How long the change cursor has stood still: the age of the oldest transaction that holds watchers back (pure)."""

from __future__ import annotations


class CursorStall:
    """Watchers are served only what is older than every open transaction; one that stays open holds all of them back.

    Fed with the snapshot's xmin and xmax at every tick. Transactions of other databases on the same server count too.
    """

    def __init__(self) -> None:
        self._xmin = -1
        self._since = 0.0
        self.seconds = 0.0
        """how long the cursor has stood at one place while there was something after it; 0 while it moves"""

    def observe(self, *, xmin: int, xmax: int, now: float) -> float:
        """Take a snapshot's bounds at `now` (monotonic seconds), and return the stall in seconds."""
        if xmin != self._xmin:
            self._xmin, self._since = xmin, now
        # Nothing is open when the two are equal: then it stands because nothing happens.
        self.seconds = now - self._since if xmin < xmax else 0.0
        if xmin >= xmax:
            self._since = now
        return self.seconds
