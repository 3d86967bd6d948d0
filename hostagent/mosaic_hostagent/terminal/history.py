"""Which lines left a screen at its top between two looks (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

TRIMMED_SHARE = 10
"""tmux drops a tenth of its limit when the scrollback is full (grid.c: grid_collect_history)."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One look: lines in the scrollback, its limit, the screen's first row, and the newest rows above the screen."""

    history: int
    limit: int
    first_row: str
    above: Sequence[str] = ()


def scrolled_between(before: Seen, after: Seen) -> tuple[list[str], int]:
    """Return (lines, oldest first; how many before them are not known, at least)."""
    count = after.history - before.history
    if count < 0:
        trimmed = count + after.limit // TRIMMED_SHARE
        # Else somebody emptied the scrollback: all that is in it now came since.
        count = trimmed if trimmed >= 0 and before.history > after.limit // 2 else after.history
    if count == 0:
        return [], 0
    lines = list(after.above[-count:])
    skipped = count - len(lines)
    # After a trim the difference may be right by a tenth of the limit too few: what was the first row tells.
    if not skipped and before.first_row.strip() and lines[0].rstrip() != before.first_row.rstrip():
        skipped = 1
    return lines, skipped
