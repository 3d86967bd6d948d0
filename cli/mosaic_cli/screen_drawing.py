"""Another terminal's picture on this one: clipped to its size, nothing in it but characters and colours (pure)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from mosaic_proto.v1 import terminal_pb2 as pb

from mosaic_cli.text import cells, printable, width

_PIECE = re.compile(r"\x1b\[[0-9:;]*m|[^\x1b]|\x1b")
_SGR = re.compile(r"\x1b\[[0-9:;]*m")


@dataclass(frozen=True, slots=True)
class Size:
    """Of a terminal, in cells."""

    columns: int
    lines: int


def plain(row: str) -> str:
    """Return a row without colours, and without anything else that could move a cursor."""
    return printable(_SGR.sub("", row)).rstrip()


def plain_screen(rows: Sequence[str]) -> list[str]:
    """Return the rows without colours, and without the empty ones at the end."""
    lines = [plain(row) for row in rows]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def clip(row: str, first: int, columns: int) -> str:
    """Return the cells of `row` from `first` on, at most `columns`, with their colours."""
    parts: list[str] = []
    at = 0
    for found in _PIECE.finditer(row):
        piece = found.group()
        if len(piece) > 1:
            parts.append(piece)
            continue
        if not (piece := printable(piece)):
            continue
        size = cells(piece)
        if at < first < at + size:
            parts.append(" " * (at + size - first))  # half of a wide character
        elif first <= at and at + size <= first + columns:
            parts.append(piece)
        at += size
        if at > first + columns:
            break
    return "".join(parts)


Drawn = tuple[list[str], tuple[int, int] | None]
"""A terminal's lines, and where its cursor stands (column, line) if it is shown."""


def draw(rows: Sequence[str], status: pb.TerminalStatus, size: Size, bar: str) -> Drawn:
    """Return what this terminal shows: the picture, and the bar as its last line.

    A picture that is larger is shown where its cursor is; `bar_text` says that it is clipped.
    """
    height = max(size.lines - 1, 0)
    top = max(0, min(status.cursor_y - height + 1, len(rows) - height))
    left = max(0, status.cursor_x - size.columns + 1)
    shown = [clip(row, left, size.columns) for row in rows[top : top + height]]
    shown += [""] * (height - len(shown))
    x, y = status.cursor_x - left, status.cursor_y - top
    visible = not status.cursor_hidden and not status.note and 0 <= x < size.columns and 0 <= y < height
    return [*shown, f"\x1b[7m{_filled(bar, size.columns)}\x1b[0m"], (x, y) if visible else None


def bar_text(name: str, status: pb.TerminalStatus, size: Size, *, lost: str, how: str) -> str:
    """Return what the bar says: who, what is wrong, who drives it, what is clipped, how to leave."""
    parts = [name]
    if lost:
        parts.append(f"NOT CONNECTED: {lost}; trying again")
    if status.note:
        parts.append(status.note)
    if status.driver:
        parts.append(f"{status.driver} drives it")
    if status.scrollback_open:
        parts.append("its scrollback is being read on the host")
    if status.width > size.columns or status.height > size.lines - 1:
        parts.append(f"{status.width}x{status.height} clipped to {size.columns}x{max(size.lines - 1, 0)}")
    return "  |  ".join([*parts, how])


def changes(before: Sequence[str], after: Sequence[str]) -> str:
    """Return what to write so that a terminal that shows `before` shows `after`. Unequal lengths: all of it."""
    whole = len(before) != len(after)
    parts = ["\x1b[2J"] if whole else []
    for index, line in enumerate(after):
        if whole or before[index] != line:
            parts.append(f"\x1b[{index + 1};1H\x1b[0m{line}\x1b[0m")
            # Erasing after a full line would take its last cell on terminals that wait at the margin.
            parts.append("" if index == len(after) - 1 else "\x1b[K")
    return "".join(parts)


def _filled(text: str, columns: int) -> str:
    shown = clip(printable(text), 0, columns)
    return shown + " " * (columns - width(shown))
