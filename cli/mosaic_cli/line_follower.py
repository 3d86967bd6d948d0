"""The lines that a line program has finished, each once, read off the pictures of its terminal (pure)."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from mosaic_framework.screen_feed import ScreenFeed
from mosaic_proto.v1 import terminal_pb2 as pb

from mosaic_cli.screen_drawing import plain

_REMEMBERED = 50
_ENOUGH = 3  # lines in a row that are the same: the place is found


class LineFollower:
    """Fed with every frame. A line is finished when the cursor stands below it, or when it has left the screen."""

    def __init__(self) -> None:
        self._feed = ScreenFeed()
        self._next: int | None = None
        """the number of the first line not told yet, counted as `status.top` counts"""
        self._run_id = ""
        self._told: deque[str] = deque(maxlen=_REMEMBERED)

    @property
    def feed(self) -> ScreenFeed:
        """The picture as it is now."""
        return self._feed

    def again(self) -> None:
        """The next frame is of another stream, which counts anew: what was told already is known by its text."""
        self._next = None

    def take(self, frame: pb.TerminalFrame) -> list[str]:
        """Return the lines that `frame` finishes, oldest first."""
        self._feed.take(frame)
        status = self._feed.status
        top, until = status.top, status.top + min(status.cursor_y, len(self._feed.rows))
        lines = self._between(frame, top, until)
        if status.run_id != self._run_id or self._next is None:
            lines = lines if status.run_id != self._run_id else after(list(self._told), lines)
            self._run_id, self._next = status.run_id, until
        elif until >= self._next or self._erased(status):
            self._next = until
        self._told.extend(lines)
        return lines

    def _between(self, frame: pb.TerminalFrame, top: int, until: int) -> list[str]:
        lines: list[str] = []
        first = top - len(frame.scrolled)
        begin = first if self._next is None else self._next
        if frame.skipped and begin < first:
            lines.append(f"[{frame.skipped} or more lines are not shown: they came too fast]")
        lines += [plain(line) for number, line in enumerate(frame.scrolled, first) if number >= begin]
        lines += [plain(self._feed.rows[number - top]) for number in range(max(begin, top), until)]
        return lines

    def _erased(self, status: pb.TerminalStatus) -> bool:
        """Whether the screen is empty from the cursor on: what was told of it is gone, and new lines come there."""
        return not any(plain(row) for row in self._feed.rows[status.cursor_y + 1 :])


def after(told: Sequence[str], lines: Sequence[str]) -> list[str]:
    """Return what of `lines` comes after the newest of `told` in them; all of it when none is found there."""
    for size in range(min(_ENOUGH, len(told)), 0, -1):
        mark = list(told[-size:])
        for at in range(len(lines) - size, -1, -1):
            if list(lines[at : at + size]) == mark and any(mark):
                return list(lines[at + size :])
        if size == _ENOUGH and len(told) >= _ENOUGH:
            break
    return list(lines)
