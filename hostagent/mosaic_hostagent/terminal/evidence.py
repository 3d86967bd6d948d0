"""What a pane shows, and what that proves of a text of ours at the cursor of a line composer (pure).

Text and screen are compared without white space and frames, because programs wrap, indent and box what was typed. Only
the end of a text is looked for: a composer scrolls.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from mosaic_framework.manifest import Manifest, Sign

_TAIL = 160
_ROWS_COMPARED = 10
_FRAMES = re.compile(r"[\s\u2500-\u259f]+")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A pane at one moment. `rows` is the visible screen; the cursor counts cells and rows from 0."""

    rows: Sequence[str]
    cursor_x: int
    cursor_y: int
    history: int
    width: int
    dead: bool
    in_mode: bool
    alternate: bool
    """a full-screen program has the terminal"""
    title: str
    command: str
    bright: Sequence[str] = ()
    """`rows` with blanks for what is faint; empty when nothing is"""
    pid: int = 0
    """the pane's own process, which leads its terminal session"""
    tty: str = ""
    person_at: int = 0
    """when a client of the person's own tmux last sent a key, or came: seconds since 1970, cut to whole ones"""
    person_types: bool = False
    """that is so short ago that the program may not have drawn it yet"""

    @property
    def screen(self) -> str:
        """The visible screen as one text."""
        return "\n".join(self.rows)

    @property
    def line(self) -> int:
        """The row of the cursor, counted from the oldest row of the scrollback."""
        return self.history + self.cursor_y

    @property
    def at_cursor(self) -> str:
        """The row of the cursor, up to it."""
        row = self.rows[self.cursor_y] if self.cursor_y < len(self.rows) else ""
        return _cells(row, self.cursor_x)


def squeeze(text: str) -> str:
    """Return `text` without white space and box-drawing characters."""
    return _FRAMES.sub("", text)


def tail_of(text: str) -> str:
    """Return the end of a typed text, as it is looked for."""
    return squeeze(text)[-_TAIL:]


def signs_seen(signs: Sequence[Sign], screen: str, title: str) -> Sign | None:
    """Return the first of `signs` that is there."""
    for sign in signs:
        if re.search(sign.pattern, title if sign.where == "title" else screen, re.MULTILINE):
            return sign
    return None


def prompt_is_up(snapshot: Snapshot, manifest: Manifest) -> bool:
    """Say whether a line composer waits at the cursor, with nothing typed after its prompt."""
    before = snapshot.at_cursor
    return signs_seen(manifest.signs.ready, before, snapshot.title) is not None if before.strip() else False


def line_holds(snapshot: Snapshot, text: str) -> bool:
    """Say whether `text` stands before the cursor of a line composer."""
    return _stands_before_cursor(snapshot, text) or _ends_before_cursor(snapshot, text)


def line_typed(before: Snapshot, now: Snapshot, text: str) -> bool:
    """Say whether `now` proves that `text` stands at a line composer, where it did not `before`."""
    if now.dead:
        return False
    if _stands_before_cursor(now, text):
        return (now.line, now.cursor_x) != (before.line, before.cursor_x)
    # A shell without bracketed paste takes each line as it comes; then only the last one waits for Enter.
    return _ends_before_cursor(now, text) and now.line - before.line >= text.count("\n")


def line_submitted(at_enter: Snapshot, now: Snapshot, text: str) -> bool:
    """Say whether `now` proves that a line composer let go of `text`, which stood there at `at_enter`."""
    if now.width == at_enter.width and now.line > at_enter.line:
        return True
    return not line_holds(now, text) and (now.line, now.cursor_x) != (at_enter.line, at_enter.cursor_x)


def _stands_before_cursor(snapshot: Snapshot, text: str) -> bool:
    if not _cursor_follows_text(snapshot):
        return False
    shown = squeeze("".join(snapshot.rows[: snapshot.cursor_y]) + snapshot.at_cursor)
    return shown.endswith(tail_of(text)) or _shows_clipped(snapshot, text)


def _ends_before_cursor(snapshot: Snapshot, text: str) -> bool:
    """Say whether the last one of several lines stands before the cursor."""
    last_line = tail_of(text.rstrip().rpartition("\n")[2])
    return "\n" in text.rstrip() and squeeze(snapshot.at_cursor).endswith(last_line)


def _shows_clipped(snapshot: Snapshot, text: str) -> bool:
    """Say whether a text longer than the screen is there as readline draws it: its top, then its last line."""
    above = squeeze("".join(snapshot.rows[max(0, snapshot.cursor_y - _ROWS_COMPARED) : snapshot.cursor_y]))
    if text.count("\n") < len(snapshot.rows) or not above:
        return False
    last_line = tail_of(text.rstrip().rpartition("\n")[2])
    return above in squeeze(text) and squeeze(snapshot.at_cursor).endswith(last_line)


def _cursor_follows_text(snapshot: Snapshot) -> bool:
    # At the left edge the text fills the row above to its end; a new, empty line would be what follows an Enter.
    if snapshot.at_cursor.strip():
        return True
    above = snapshot.rows[snapshot.cursor_y - 1] if snapshot.cursor_y > 0 else ""
    return snapshot.cursor_x == 0 and _width(above) >= snapshot.width


def _cells(row: str, cells: int) -> str:
    """Return the part of `row` that fills the first `cells` columns."""
    used = 0
    for index, character in enumerate(row):
        if used >= cells:
            return row[:index]
        used += _character_width(character)
    return row


def _width(row: str) -> int:
    return sum(map(_character_width, row))


def _character_width(character: str) -> int:
    if unicodedata.combining(character) or unicodedata.category(character) == "Cf":
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
