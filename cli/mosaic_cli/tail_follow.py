"""mosaic agent tail --follow: lines as a line program finishes them, screens of a program that redraws its own."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator

from mosaic_framework.errors import Unreachable
from mosaic_proto.v1 import terminal_pb2 as pb

from mosaic_cli import output
from mosaic_cli.client import connect
from mosaic_cli.line_follower import LineFollower
from mosaic_cli.output import Format
from mosaic_cli.terminal_frames import frames
from mosaic_cli.watch_terminal import frame_document, header, say_loss, screen_lines

MOST_LINES = 500
QUIET_SECONDS = 0.5
"""A screen is printed when it has stood still for so long …"""

LONGEST_SECONDS = 3.0
"""… or when it has not stood still for so long."""


class _Lost:
    """Stands in the queue of frames for a lost connection."""


def follow_terminal(address: str, *, lines: int, form: Format, context: str, tenant: str) -> None:
    """Print what an agent's terminal shows, and go on with what comes, until interrupted. Works in a pipe."""
    arrived: queue.Queue[pb.TerminalFrame | _Lost | Exception] = queue.Queue(64)  # a slow pipe slows the stream

    with connect(context, tenant=tenant) as connection:

        def on_loss(error: Unreachable) -> None:
            say_loss(error)
            arrived.put(_Lost())

        source = frames(
            connection, address, scrolled=True, lines=min(lines, MOST_LINES), again=MOST_LINES, on_loss=on_loss
        )
        threading.Thread(target=_read, args=(source, arrived), name="frames", daemon=True).start()
        teller = _Teller(address, form)
        while True:
            try:
                came = arrived.get(timeout=teller.patience())
            except queue.Empty:
                teller.look()
                continue
            if isinstance(came, Exception):
                raise came
            if isinstance(came, _Lost):
                teller.again()
            else:
                teller.take(came)


def _read(source: Iterator[pb.TerminalFrame], arrived: queue.Queue[pb.TerminalFrame | _Lost | Exception]) -> None:
    try:
        for frame in source:
            arrived.put(frame)
    except Exception as error:  # noqa: BLE001  raised again where a person is told of it
        arrived.put(error)


class _Teller:
    """Decides what is printed of the frames, and when."""

    def __init__(self, address: str, form: Format) -> None:
        self._address = address
        self._json = form is Format.JSON
        self._follower = LineFollower()
        self._shown: list[str] | None = None
        self._note = ""
        self._changed: float | None = None
        """since when a screen waits to be printed"""
        self._newest = 0.0

    def again(self) -> None:
        """The stream begins anew."""
        self._follower.again()

    def take(self, frame: pb.TerminalFrame) -> None:
        """Take a frame, and print what it finishes."""
        finished = self._follower.take(frame)
        status = self._follower.feed.status
        if status.note != self._note:
            self._note = status.note
            if status.note:
                output.say(f"{self._address}: {status.note}")
        if status.full_screen:
            self._newest = time.monotonic()
            self._changed = self._changed if self._changed is not None else self._newest
            self.look()
            return
        self._shown = self._changed = None
        if finished and self._json:
            output.show_line("TerminalLines", {"agent": self._address, "runId": status.run_id, "lines": finished})
        elif finished:
            output.write("\n".join(finished) + "\n")

    def patience(self) -> float | None:
        """Return how long to wait for another frame before looking."""
        if self._changed is None:
            return None
        now = time.monotonic()
        return max(0.0, min(self._newest + QUIET_SECONDS, self._changed + LONGEST_SECONDS) - now)

    def look(self) -> None:
        """Print a screen that has waited long enough."""
        if self._changed is None or (self.patience() or 0.0) > 0:
            return
        self._changed = None
        lines = screen_lines(self._address, self._follower.feed)
        if lines == self._shown:
            return
        self._shown = lines
        if self._json:
            output.show_line("TerminalFrame", frame_document(self._address, self._follower.feed))
        else:
            output.write("\n".join([header(self._address), *lines]) + "\n")
