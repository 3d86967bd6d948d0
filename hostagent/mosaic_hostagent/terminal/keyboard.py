"""What a person's terminal sends, turned into what tmux gives the program (pure).

Bytes go through as they are, with two exceptions. Cursor and function keys become tmux's names, because what they must
look like depends on the mode of the program. A bracketed paste becomes a paste of tmux, which brackets it only for a
program that asked for that.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

PASTE_LIMIT = 64 * 1024
"""Bytes of one paste command: a longer paste goes in as several."""

_PASTE_BEGIN, _PASTE_END = b"\x1b[200~", b"\x1b[201~"
_LETTERS = {b"A": "Up", b"B": "Down", b"C": "Right", b"D": "Left", b"H": "Home", b"F": "End"}
_FUNCTION_LETTERS = {b"P": "F1", b"Q": "F2", b"R": "F3", b"S": "F4"}
_NUMBERS = {
    b"1": "Home",
    b"2": "IC",
    b"3": "DC",
    b"4": "End",
    b"5": "PPage",
    b"6": "NPage",
    b"7": "Home",
    b"8": "End",
    b"11": "F1",
    b"12": "F2",
    b"13": "F3",
    b"14": "F4",
    b"15": "F5",
    b"17": "F6",
    b"18": "F7",
    b"19": "F8",
    b"20": "F9",
    b"21": "F10",
    b"23": "F11",
    b"24": "F12",
}
_KEY = re.compile(
    rb"\x1b\[(?:1;(?P<modifier>[2-8]))?(?P<letter>[ABCDHFPQRS])"
    rb"|\x1bO(?P<application>[ABCDHFPQRS])"
    rb"|\x1b\[(?P<number>\d{1,2})(?:;(?P<number_modifier>[2-8]))?~"
    rb"|(?P<backtab>\x1b\[Z)"
)


@dataclass(frozen=True, slots=True)
class Literal:
    """Bytes for the program as they are."""

    content: bytes


@dataclass(frozen=True, slots=True)
class Named:
    """A key by tmux's name."""

    name: str


@dataclass(frozen=True, slots=True)
class Paste:
    """Text that was pasted; not all of it when it is long."""

    content: bytes


Stroke = Literal | Named | Paste


class KeyReader:
    """Reads the keys of one attachment. A paste may come in any number of pieces."""

    def __init__(self) -> None:
        self._paste: bytes | None = None

    def feed(self, data: bytes) -> list[Stroke]:
        """Return what `data` asks for, in order."""
        strokes: list[Stroke] = []
        while data:
            if self._paste is not None:
                data = self._in_paste(data, strokes)
                continue
            before, begins, data = data.partition(_PASTE_BEGIN)
            strokes += _keys(before)
            if begins:
                self._paste = b""
        return strokes

    def _in_paste(self, data: bytes, strokes: list[Stroke]) -> bytes:
        """Take what belongs to the paste that is open, and return what follows it."""
        text, ends, rest = ((self._paste or b"") + data).partition(_PASTE_END)
        # The end mark may be cut in two.
        kept = b"" if ends else _beginning_at_end(text, _PASTE_END)
        if kept:
            text = text[: -len(kept)]
        if not ends and len(text) < PASTE_LIMIT:
            self._paste = text + kept
            return b""
        strokes += [Paste(text[at : at + PASTE_LIMIT]) for at in range(0, len(text), PASTE_LIMIT)]
        self._paste = None if ends else kept
        return rest


def _keys(data: bytes) -> list[Stroke]:
    strokes: list[Stroke] = []
    at = 0
    for found in _KEY.finditer(data):
        name = _name(found)
        if not name:
            continue
        if found.start() > at:
            strokes.append(Literal(data[at : found.start()]))
        strokes.append(Named(name))
        at = found.end()
    if at < len(data):
        strokes.append(Literal(data[at:]))
    return strokes


def _name(found: re.Match[bytes]) -> str:
    if found["backtab"]:
        return "BTab"
    if found["number"]:
        name, modifier = _NUMBERS.get(found["number"], ""), found["number_modifier"]
    else:
        letter, modifier = found["letter"] or found["application"], found["modifier"]
        name = _LETTERS.get(letter) or _FUNCTION_LETTERS[letter]
        if found["letter"] in _FUNCTION_LETTERS and not modifier:
            return ""  # ESC [ P and the like are no keys; ESC [ R answers where the cursor is
    bits = int(modifier) - 1 if modifier else 0
    prefix = "".join(sign for bit, sign in ((4, "C-"), (2, "M-"), (1, "S-")) if bits & bit)
    return f"{prefix}{name}" if name else ""


def _beginning_at_end(text: bytes, mark: bytes) -> bytes:
    """Return the longest end of `text` that is a beginning of `mark`."""
    for size in range(min(len(mark) - 1, len(text)), 0, -1):
        if text.endswith(mark[:size]):
            return mark[:size]
    return b""
