"""A terminal's frames as they come, through lost connections; or only its newest picture, for who draws it."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator

from mosaic_framework.errors import Unreachable
from mosaic_framework.screen_feed import ScreenFeed
from mosaic_proto.v1 import terminal_pb2 as pb

from mosaic_cli.client import Connection, ConnectionLost

_PAUSE_FIRST, _PAUSE_MOST = 0.2, 3.0


def frames(
    connection: Connection,
    address: str,
    *,
    scrolled: bool = False,
    lines: int = 0,
    again: int = 0,
    on_loss: Callable[[Unreachable], None],
) -> Iterator[pb.TerminalFrame]:
    """Yield frames until interrupted. After a loss the first one is whole, with `again` lines of scrollback.

    `on_loss` is told once for each loss. What fails at the first try, and what no repetition can mend, is raised.
    """
    request = pb.WatchTerminalRequest(tenant=connection.tenant, address=address, scrolled=scrolled, lines=lines)
    seen, lost, pause = False, False, _PAUSE_FIRST
    while True:
        try:
            for frame in connection.stream(connection.terminals.Watch, request):
                seen, lost, pause = True, False, _PAUSE_FIRST
                yield frame
            raise ConnectionLost("the stream ended", why="the control plane is stopping")
        except Unreachable as error:
            if not seen:
                raise
            if not lost:
                on_loss(error)
            lost = True
        time.sleep(pause)  # nothing tells us when a host or a control plane is back
        pause = min(pause * 2, _PAUSE_MOST)
        request.lines = again
        connection.reconnect()


class NewestPicture:
    """Takes frames on a thread of its own. `wake` is a file descriptor that is readable when there is something new."""

    def __init__(self, source: Callable[[Callable[[Unreachable], None]], Iterator[pb.TerminalFrame]]) -> None:
        self._source = source
        self._lock = threading.Lock()
        self._feed = ScreenFeed()
        self._seen = threading.Event()
        self.lost = ""
        self.error: Exception | None = None
        self.ended = False
        self.wake, self._waker = os.pipe()
        os.set_blocking(self.wake, False)
        os.set_blocking(self._waker, False)

    def start(self) -> None:
        """Begin to take frames; returns with the first one. What goes wrong before it is raised."""
        threading.Thread(target=self._take, name="frames", daemon=True).start()
        self._seen.wait()
        if self.error is not None:
            raise self.error

    def now(self) -> tuple[tuple[str, ...], pb.TerminalStatus]:
        """Return the rows and the status as they are now."""
        with self._lock:
            return self._feed.rows, self._feed.status

    def poke(self) -> None:
        """Make `wake` readable; from signal handlers too."""
        with contextlib.suppress(BlockingIOError):  # it is readable already
            os.write(self._waker, b".")

    def drain(self) -> None:
        """Read what made `wake` readable."""
        with contextlib.suppress(BlockingIOError):
            while os.read(self.wake, 4096):
                continue

    def _loss(self, error: Unreachable) -> None:
        """The connection is lost; the picture stays, and is old."""
        self.lost = error.what
        self.poke()

    def _take(self) -> None:
        try:
            for frame in self._source(self._loss):
                with self._lock:
                    self._feed.take(frame)
                self.lost = ""
                self._seen.set()
                self.poke()
        except Exception as error:  # noqa: BLE001  raised again where a person is told of it
            self.error = error
        self.ended = True
        self._seen.set()
        self.poke()
