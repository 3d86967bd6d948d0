"""How long to wait before the next try (pure)."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

LOOP_AFTER = 5
"""So many short runs in a row are called a crash loop."""


def full_jitter(
    attempt: int, *, first: float = 0.2, longest: float = 10.0, chance: Callable[[], float] = random.random
) -> float:
    """Return the seconds before attempt number `attempt` (from 0): anywhere up to a doubling, bounded limit.

    Full jitter spreads hosts that lost the same control plane at the same moment.
    """
    return chance() * min(longest, first * 2.0 ** min(attempt, 16))


@dataclass(frozen=True, slots=True)
class Crashes:
    """The short runs of a seat, one after another. A run that lasted `long_enough` seconds starts the count anew."""

    count: int = 0
    long_enough: float = 60.0
    longest: float = 60.0

    def after_run(self, lasted: float) -> Crashes:
        """Return the count after a run that ended by itself after `lasted` seconds."""
        return Crashes(1 if lasted >= self.long_enough else self.count + 1, self.long_enough, self.longest)

    @property
    def delay(self) -> float:
        """The seconds before the next launch: 1, 2, 4 … 60."""
        return min(self.longest, 2.0 ** min(self.count - 1, 16)) if self.count else 0.0

    @property
    def looping(self) -> bool:
        """Whether this is a crash loop that a person should look at."""
        return self.count >= LOOP_AFTER
