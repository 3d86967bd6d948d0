"""This terminal, lent to a picture: raw keys in, whole lines out, and everything as it was on every way out."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import termios
import tty
from collections.abc import Callable, Iterator, Sequence
from types import FrameType

from mosaic_cli.failures import UsageError
from mosaic_cli.screen_drawing import Size, changes

# The alternate screen; a paste is marked as one; cursor shown at the end.
_ENTER = b"\x1b[?1049h\x1b[?2004h\x1b[?25l"
_LEAVE = b"\x1b[0m\x1b[?2004l\x1b[?25h\x1b[?1049l"
_ENDING = (signal.SIGTERM, signal.SIGHUP)


class LocalTerminal:
    """Made by `lent`."""

    def __init__(self, keyboard: int | None, screen: int) -> None:
        self.keyboard = keyboard
        self._screen = screen
        self._shown: list[str] = []
        self._size = Size(0, 0)

    @property
    def size(self) -> Size:
        """Its size now."""
        columns, lines = shutil.get_terminal_size()
        with contextlib.suppress(OSError):
            columns, lines = os.get_terminal_size(self._screen)
        return Size(columns, lines)

    def show(self, lines: Sequence[str], cursor: tuple[int, int] | None, size: Size) -> None:
        """Make it show these lines, which were drawn for `size`, and put the cursor there."""
        # A terminal that was resized may show anything.
        text = changes(self._shown if size == self._size else [], lines)
        self._shown, self._size = list(lines), size
        where = f"\x1b[{cursor[1] + 1};{cursor[0] + 1}H\x1b[?25h" if cursor is not None else ""
        _write(self._screen, f"\x1b[?25l{text}{where}".encode())

    def keys(self) -> bytes:
        """Return what was typed; empty when the keyboard is gone. Call it when the keyboard is readable."""
        if self.keyboard is None:
            return b""
        try:
            return os.read(self.keyboard, 4096)
        except OSError:
            return b""


def check() -> None:
    """Raise UsageError unless there are a keyboard and a screen."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError(
            "an attachment needs a terminal",
            why="standard input or output is not one",
            next_step="to send text: mosaic agent send AGENT; to read it: mosaic agent tail AGENT --follow",
        )


@contextlib.contextmanager
def lent(on_resize: Callable[[], None]) -> Iterator[LocalTerminal]:
    """Lend this terminal. SIGTERM and SIGHUP end the block as an exception does, so that the terminal is given back."""
    screen = sys.stdout.fileno()
    keyboard = sys.stdin.fileno() if sys.stdin.isatty() else None
    before = termios.tcgetattr(keyboard) if keyboard is not None else None
    handlers = {number: signal.signal(number, _end) for number in _ENDING}
    handlers[signal.SIGWINCH] = signal.signal(signal.SIGWINCH, lambda *_: on_resize())
    try:
        if keyboard is not None:
            tty.setraw(keyboard)
        _write(screen, _ENTER)
        yield LocalTerminal(keyboard, screen)
    finally:
        with contextlib.suppress(OSError):  # a terminal that is gone needs nothing given back
            _write(screen, _LEAVE)
        if keyboard is not None and before is not None:
            with contextlib.suppress(termios.error):
                termios.tcsetattr(keyboard, termios.TCSAFLUSH, before)
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _end(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _write(descriptor: int, content: bytes) -> None:
    while content:
        content = content[os.write(descriptor, content) :]
