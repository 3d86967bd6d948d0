"""When a stream says something of its own: bookmarks, signs of life, its bundle (pure, on a clock of seconds)."""

from __future__ import annotations

import random
from collections.abc import Callable

BOOKMARK_SECONDS = 10.0
"""At most 15 s may lie between two bookmarks."""

SIGN_SECONDS = 2.0
"""After so long without a word a sign of life is due: who hears none for three of them dials anew."""

BUNDLE_SECONDS = 5.0
BEHIND_SECONDS = 5.0
"""How long changes may have been held back by an open transaction before a bookmark would be a lie."""

_SLACK = 0.05


class Pace:
    """The times of one stream."""

    def __init__(self, clock: Callable[[], float], *, jitter: Callable[[], float] = random.random) -> None:
        self._clock = clock
        self._jitter = jitter
        self._said_at = clock()
        self._bookmark_at = clock()
        self._bundle_at = clock()
        self._behind: tuple[int, float] | None = None

    def said(self) -> None:
        """Something was said."""
        self._said_at = self._clock()

    def bookmarked(self) -> None:
        """A bookmark was said; the next is due in 8 to 12 s."""
        self._bookmark_at = self._clock() + BOOKMARK_SECONDS * (0.8 + 0.4 * self._jitter())

    def looked(self, *, held_back: bool, oldest_open: int) -> None:
        """The register was read: whether changes are held back, and by which transaction at the earliest."""
        if not held_back:
            self._behind = None
        elif self._behind is None or self._behind[0] != oldest_open:
            self._behind = (oldest_open, self._clock())

    @property
    def is_behind(self) -> bool:
        """Whether changes have been held back for too long by one and the same transaction."""
        return self._behind is not None and self._clock() - self._behind[1] > BEHIND_SECONDS

    @property
    def is_held_back(self) -> bool:
        """Whether there are changes that cannot be told yet."""
        return self._behind is not None

    def bookmark_is_due(self) -> bool:
        """Return whether to say now that all up to here has been told, which must be so."""
        return self._clock() + _SLACK >= self._bookmark_at and not self.is_behind

    def sign_is_due(self) -> bool:
        """Return whether nothing was said for so long that a sign of life is due."""
        return self._clock() + _SLACK >= self._said_at + SIGN_SECONDS

    def bundle_is_due(self) -> bool:
        """Return whether to look at the bundle again; asking counts as having looked."""
        if self._clock() < self._bundle_at:
            return False
        self._bundle_at = self._clock() + BUNDLE_SECONDS
        return True

    def next_sign(self) -> float:
        """Return the seconds until something may be due."""
        if self.is_held_back:
            return 0.05 if not self.is_behind else 1.0
        return max(0.0, min(self._said_at + SIGN_SECONDS, self._bookmark_at) - self._clock())
