"""The pause between the tries of a program that ends again and again (pure; small, since every waiter imports it)."""

from __future__ import annotations

LONG_ENOUGH = 60.0
"""A run that lasted so many seconds starts the count anew."""
LONGEST = 60.0
LOOP_AFTER = 5
"""So many short runs in a row are called a crash loop."""


def count_after(count: int, lasted: float) -> int:
    """Return how many short runs there were in a row, after one more that ended by itself after `lasted` seconds."""
    return 1 if lasted >= LONG_ENOUGH else count + 1


def delay(count: int) -> float:
    """Return the seconds before the next launch after `count` short runs: 1, 2, 4 … 60."""
    return float(min(LONGEST, 2.0 ** min(count - 1, 16))) if count else 0.0
