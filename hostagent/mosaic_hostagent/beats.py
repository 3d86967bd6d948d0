"""When to beat, and when a link is silent: no I/O, and no clock but the one that is passed in (monotonic seconds)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

DEFAULT_INTERVAL = 5.0
SHORTEST_INTERVAL = 0.1
SHORTEST_ANSWER = 4.0
_ANSWER_SHARE = 0.8
_EARLIEST = 0.8
"""Each beat comes up to a fifth early, never late: hosts that linked at one moment drift apart, and none misses one."""


class Beats:
    """The beats of one link. The pace is the control plane's, in milliseconds; 0: it has not said, ours is taken."""

    def __init__(self, interval_ms: int, answer_within_ms: int, *, chance: Callable[[], float] = random.random) -> None:
        self._chance = chance
        self._next = 0.0
        self._last = 0.0
        self._unanswered: float | None = None
        """when the oldest beat was sent since which nothing has been heard"""
        self.changed = asyncio.Event()
        """set when the pace is another one: whoever waits for the next beat looks again"""
        self.interval = DEFAULT_INTERVAL
        self.answer_within = SHORTEST_ANSWER
        self.set_pace(interval_ms, answer_within_ms)

    def set_pace(self, interval_ms: int, answer_within_ms: int) -> None:
        """Beat at this pace from now on."""
        self.interval = max(SHORTEST_INTERVAL, interval_ms / 1000) if interval_ms > 0 else DEFAULT_INTERVAL
        told = answer_within_ms / 1000 if answer_within_ms > 0 else _ANSWER_SHARE * self.interval
        self.answer_within = max(SHORTEST_ANSWER, told)
        self._plan()
        self.changed.set()

    def _plan(self) -> None:
        self._next = self._last + self.interval * (_EARLIEST + (1 - _EARLIEST) * self._chance()) if self._last else 0.0

    def due(self, now: float) -> bool:
        """Whether a beat is to be sent."""
        return now >= self._next

    def sent(self, now: float) -> None:
        """A beat was sent."""
        self._last = now
        if self._unanswered is None:
            self._unanswered = now
        self._plan()

    def heard(self, now: float) -> None:
        """The other side has said something."""
        if self._unanswered is not None and now >= self._unanswered:
            self._unanswered = None

    def silent(self, now: float) -> bool:
        """Whether a beat has gone unanswered for too long."""
        return self._unanswered is not None and now - self._unanswered >= self.answer_within

    def next_look(self, now: float) -> float:
        """Return the seconds until there may be something to do."""
        until = self._next if self._unanswered is None else min(self._next, self._unanswered + self.answer_within)
        return max(0.0, until - now)
