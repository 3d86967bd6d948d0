"""A terminal's newest picture on its way to viewers: whoever is behind gets what is true now, never a backlog (pure).

The host-agent fills a feed from tmux, a replica from the host's frames, the command line from the replica's. Memory is
bounded by one picture and a ring of lines, however much a program writes and however slowly a viewer reads.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from mosaic_proto.v1 import terminal_pb2 as pb

RING_LINES = 2_000
RING_BYTES = 1024 * 1024
FRAME_SCROLLED_BYTES = 512 * 1024  # a frame stays far below the wire's 4 MiB
MOST_ROWS = 1_000


@dataclass(slots=True)
class Viewer:
    """What one viewer was sent last. `version` -1: nothing yet. `lines`: of the scrollback, to begin with."""

    version: int = -1
    rows: tuple[str, ...] = ()
    top: int = 0
    scrolled: bool = False
    lines: int = 0


class ScreenFeed:
    """The picture, its status, and the newest lines that left it at its top. `version` rises with every change."""

    def __init__(self) -> None:
        self.version = -1
        self.rows: tuple[str, ...] = ()
        self.status = pb.TerminalStatus()
        self._ring: deque[str] = deque()
        self._ring_bytes = 0
        self._frames: dict[tuple[int, int, int], pb.TerminalFrame] = {}

    def show(
        self, rows: Sequence[str], status: pb.TerminalStatus, *, scrolled: Sequence[str] = (), skipped: int = 0
    ) -> bool:
        """Take a new picture, and say whether it is another. `status.top` is set here."""
        status.top = self.status.top + skipped + len(scrolled)
        rows = tuple(rows)
        if self.version >= 0 and rows == self.rows and status == self.status:
            return False
        if skipped:
            self._forget()
        for line in scrolled:
            self._keep(line)
        self.rows, self.status = rows, status
        self._changed()
        return True

    def recall(self, lines: Sequence[str]) -> None:
        """Take lines that left the screen before the feed began, for those who begin with some of the scrollback."""
        self._forget()
        for line in lines:
            self._keep(line)

    def take(self, frame: pb.TerminalFrame) -> None:
        """Apply a frame of another feed. Rows outside of the picture are ignored: they come from elsewhere."""
        height = min(max(frame.status.height, 0), MOST_ROWS)
        rows = [] if frame.whole else list(self.rows[:height])
        rows += [""] * (height - len(rows))
        for row in frame.rows:
            if 0 <= row.index < height:
                rows[row.index] = row.text
        if frame.status.top - self.status.top != len(frame.scrolled):
            self._forget()  # lines are missing in between, or the other side's count began elsewhere
        for line in frame.scrolled:
            self._keep(line)
        self.rows = tuple(rows)
        self.status = pb.TerminalStatus()
        self.status.CopyFrom(frame.status)
        self._changed()

    def frame_for(self, viewer: Viewer) -> pb.TerminalFrame | None:
        """Return what brings `viewer` up to date, and note that it was sent; None when there is nothing new.

        Viewers that are equally far share one frame: it must not be changed.
        """
        if viewer.version == self.version:
            return None
        key = (viewer.version, viewer.top if viewer.scrolled else -1, viewer.lines)
        frame = self._frames.get(key)
        if frame is None:
            frame = self._frames[key] = self._frame(viewer)
        viewer.version, viewer.rows, viewer.top = self.version, self.rows, self.status.top
        return frame

    def _frame(self, viewer: Viewer) -> pb.TerminalFrame:
        whole = viewer.version < 0 or len(viewer.rows) != len(self.rows)
        frame = pb.TerminalFrame(whole=whole, status=self.status)
        for index, text in enumerate(self.rows):
            if whole or viewer.rows[index] != text:
                frame.rows.add(index=index, text=text)
        if viewer.scrolled and viewer.version < 0:
            frame.scrolled.extend(_last(self._ring, viewer.lines))
        elif viewer.scrolled:
            missed = max(0, self.status.top - viewer.top)
            told = _last(self._ring, missed)
            frame.skipped = missed - len(told)
            frame.scrolled.extend(told)
        return frame

    def _keep(self, line: str) -> None:
        self._ring.append(line)
        self._ring_bytes += len(line)
        while len(self._ring) > RING_LINES or self._ring_bytes > RING_BYTES:
            self._ring_bytes -= len(self._ring.popleft())

    def _forget(self) -> None:
        self._ring.clear()
        self._ring_bytes = 0

    def _changed(self) -> None:
        self.version += 1
        self._frames.clear()


def _last(ring: deque[str], count: int) -> list[str]:
    """Return the newest lines, at most `count` and at most what a frame may hold; oldest first."""
    told: list[str] = []
    size = 0
    for line in reversed(ring):
        size += len(line.encode())
        if len(told) == count or size > FRAME_SCROLLED_BYTES:
            break
        told.append(line)
    return told[::-1]
