"""One look at a pane for a person: its rows with their colours, and what its terminal is like (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mosaic_proto.v1 import terminal_pb2

from mosaic_hostagent.terminal.control_mode import Command, Reply
from mosaic_hostagent.terminal.history import Seen
from mosaic_hostagent.terminal.sgr import complete_rows, plain

ABOVE_ROWS = 500
"""How many rows above the screen are read to tell lines that left it: more than that between two looks are skipped."""

_FIELDS = (
    "cursor_x",
    "cursor_y",
    "cursor_flag",
    "pane_width",
    "pane_height",
    "history_size",
    "history_limit",
    "alternate_on",
    "pane_in_mode",
    "pane_title",
)
_FORMAT = "\t".join(f"#{{{field}}}" for field in _FIELDS)
_TITLE_LIMIT = 200


@dataclass(frozen=True, slots=True)
class Picture:
    """What was seen. `status` says nothing yet of the run, its driver or what is wrong."""

    rows: Sequence[str]
    status: terminal_pb2.TerminalStatus
    seen: Seen


def picture_commands(pane_id: str, *, above: bool) -> list[Command]:
    """Return the commands whose replies `picture_of` reads; run together they show one moment."""
    commands: list[Command] = [
        ["display-message", "-p", "-t", pane_id, _FORMAT],
        ["capture-pane", "-p", "-e", "-t", pane_id],
    ]
    if above:
        commands.append(["capture-pane", "-p", "-S", f"-{ABOVE_ROWS}", "-E", "-1", "-t", pane_id])
    return commands


def picture_of(figures: Reply, rows: Reply, above: Reply) -> Picture:
    """Return what the replies of `picture_commands` show."""
    field = dict(zip(_FIELDS, (figures[0] if figures else "").split("\t"), strict=False))
    number = {name: int(field.get(name) or 0) for name in _FIELDS[:-1]}
    shown = complete_rows(rows)
    status = terminal_pb2.TerminalStatus(
        width=number["pane_width"],
        height=len(shown),
        cursor_x=number["cursor_x"],
        cursor_y=number["cursor_y"],
        cursor_hidden=not number["cursor_flag"],
        full_screen=bool(number["alternate_on"]),
        scrollback_open=bool(number["pane_in_mode"]),
        title=field.get("pane_title", "")[:_TITLE_LIMIT],
    )
    # Without a scrollback tmux answers a capture above the screen with the screen's first row.
    above = above[-number["history_size"] :] if number["history_size"] else []
    first = plain(shown[0]) if shown else ""
    return Picture(shown, status, Seen(number["history_size"], number["history_limit"], first, above))
