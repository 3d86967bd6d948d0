"""mosaic agent watch: a terminal elsewhere, live and read-only."""

from __future__ import annotations

import select
import sys
import time
from typing import Any

from mosaic_framework.screen_feed import ScreenFeed

from mosaic_cli import local_terminal, output
from mosaic_cli.client import connect
from mosaic_cli.output import Format
from mosaic_cli.screen_drawing import bar_text, draw, plain_screen
from mosaic_cli.terminal_frames import NewestPicture, frames
from mosaic_cli.text import local_clock

_LEAVE = b"qQ\x03\x04\x1d"  # q, Ctrl-C, Ctrl-D, Ctrl-]


def watch_terminal(address: str, *, form: Format, context: str, tenant: str) -> None:
    """Show a terminal until the person leaves: drawn on a terminal, else a screen of text for each change."""
    with connect(context, tenant=tenant) as connection:
        if form is Format.TABLE and sys.stdout.isatty():
            _draw(address, NewestPicture(lambda on_loss: frames(connection, address, on_loss=on_loss)))
            return
        feed, shown = ScreenFeed(), None
        for frame in frames(connection, address, on_loss=say_loss):
            feed.take(frame)
            if form is Format.JSON:
                output.show_line("TerminalFrame", frame_document(address, feed))
            elif (lines := screen_lines(address, feed)) != shown:
                output.write("\n".join([header(address), *lines]) + "\n")
                shown = lines


def say_loss(error: Any) -> None:
    """Tell on stderr of a lost connection."""
    output.say(f"the connection is lost ({error.what}); trying again")


def header(address: str) -> str:
    """Return the line above a screen in a stream of text."""
    return f"--- {address} {local_clock()} ---"


def screen_lines(address: str, feed: ScreenFeed) -> list[str]:
    """Return the screen as text; what is wrong with it comes first."""
    note = [f"[{address}: {feed.status.note}]"] if feed.status.note else []
    return note + plain_screen(feed.rows)


def frame_document(address: str, feed: ScreenFeed) -> dict[str, Any]:
    """Return the picture as JSON shows it."""
    status = feed.status
    return {
        "agent": address,
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "runId": status.run_id,
        "rows": plain_screen(feed.rows),
        "width": status.width,
        "height": status.height,
        "cursor": {"x": status.cursor_x, "y": status.cursor_y, "hidden": status.cursor_hidden},
        "title": status.title,
        "fullScreen": status.full_screen,
        "note": status.note,
        "driver": status.driver,
    }


def _draw(address: str, picture: NewestPicture) -> None:
    picture.start()  # what fails at the first try is told on the terminal as it was
    with local_terminal.lent(picture.poke) as terminal:
        keyboard = [] if terminal.keyboard is None else [terminal.keyboard]
        while not picture.ended:
            rows, status = picture.now()
            size = terminal.size
            bar = bar_text(address, status, size, lost=picture.lost, how="read-only, q leaves")
            terminal.show(*draw(rows, status, size, bar), size)
            ready, _, _ = select.select([picture.wake, *keyboard], [], [])
            picture.drain()
            if keyboard and keyboard[0] in ready:
                keys = terminal.keys()
                if not keys or any(key in _LEAVE for key in keys):
                    return
    if picture.error is not None:
        raise picture.error
