"""How long to wait before the next try (pure)."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from mosaic_framework.errors import FleetError, LimitReached

from mosaic_hostagent.crashes import LONG_ENOUGH, LOOP_AFTER, count_after, delay


def full_jitter(
    attempt: int, *, first: float = 0.2, longest: float = 10.0, chance: Callable[[], float] = random.random
) -> float:
    """Return the seconds before attempt number `attempt` (from 0): anywhere up to a doubling, bounded limit.

    Full jitter spreads hosts that lost the same control plane at the same moment.
    """
    return chance() * min(longest, first * 2.0 ** min(attempt, 16))


def before_next_dial(attempt: int, failure: FleetError | None, *, chance: Callable[[], float] = random.random) -> float:
    """Return the seconds before a link is dialled again: full jitter, after what a limit said if one refused it."""
    told = failure.retry_after if isinstance(failure, LimitReached) else None
    return (told or 0.0) + full_jitter(attempt, chance=chance)


def held_back(refusals: int, *, longest: float) -> float:
    """Return the seconds until a seat that could not be started so many times in a row is tried again: 1, 2, 4 ….

    What stood in the way is often over in a moment (a full disk, a tmux server that was killed), and nobody tells.
    """
    return float(min(longest, 2.0 ** min(max(0, refusals - 1), 16)))


@dataclass(frozen=True, slots=True)
class Crashes:
    """The short runs of a seat, one after another. A run that lasted `long_enough` seconds starts the count anew."""

    count: int = 0

    @property
    def long_enough(self) -> float:
        """The seconds after which a run is no crash any more."""
        return LONG_ENOUGH

    def after_run(self, lasted: float) -> Crashes:
        """Return the count after a run that ended by itself after `lasted` seconds."""
        return Crashes(count_after(self.count, lasted))

    @property
    def delay(self) -> float:
        """The seconds before the next launch: 1, 2, 4 … 60."""
        return delay(self.count)

    @property
    def looping(self) -> bool:
        """Whether this is a crash loop that a person should look at."""
        return self.count >= LOOP_AFTER
