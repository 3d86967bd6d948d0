"""Rows of `capture-pane -e` made complete in themselves: tmux carries colours over from one row to the next (pure).

What comes out holds characters and SGR sequences only: line-drawing becomes Unicode, everything else is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

ROW_LIMIT = 16_384  # characters; a row of 1,000 cells with a colour each has fewer

_TOKEN = re.compile(
    r"\x1b\[(?P<sgr>[0-9:;]*)m"
    r"|\x1b\[[0-?]*[ -/]*[@-~]"  # any other control sequence
    r"|\x1b[\]P_^][^\x07\x1b]*(?:\x07|\x1b\\)?"  # OSC (hyperlinks), DCS, APC, PM
    r"|\x1b[ -/]*[0-~]?"
    r"|(?P<shift>[\x0e\x0f])"
    r"|[\x00-\x1f\x7f-\x9f]"
)
# What DEC's special graphics draw (VT100, also terminfo's acsc), by the letter that stands for it.
_GRAPHICS = str.maketrans("`afgijklmnopqrstuvwxyz{|}~", "◆▒°±␋┘┐┌└┼⎺⎻─⎼⎽├┤┴┬│≤≥π≠£·")
_OFF = {"22": "12", "23": "3", "24": "4", "25": "5", "27": "7", "28": "8", "29": "9", "55": "o"}


class Pen:
    """What the next character is drawn with: the SGR parameters in force, by what they set."""

    def __init__(self) -> None:
        self._set: dict[str, str] = {}

    @property
    def sequence(self) -> str:
        """The SGR sequence that brings a fresh pen here; empty for a fresh one."""
        return f"\x1b[{';'.join(self._set.values())}m" if self._set else ""

    def take(self, parameters: str) -> None:
        """Apply the parameters of one SGR sequence."""
        words = parameters.split(";")
        while words:
            word = words.pop(0)
            number = word.partition(":")[0] or "0"
            if number == "0":
                self._set.clear()
            elif number in ("38", "48", "58"):
                self._set[number] = _colour(word, words)
            elif number in ("39", "49", "59"):
                self._set.pop(f"{number[0]}8", None)
            elif number.isdigit() and (30 <= int(number) <= 37 or 90 <= int(number) <= 97):
                self._set["38"] = number
            elif number.isdigit() and (40 <= int(number) <= 47 or 100 <= int(number) <= 107):
                self._set["48"] = number
            elif number in _OFF:
                for attribute in _OFF[number]:
                    self._set.pop(attribute, None)
            elif number == "53":
                self._set["o"] = word
            elif number in "123456789" and len(number) == 1:
                self._set["5" if number == "6" else number] = word


def complete_rows(rows: Iterable[str]) -> list[str]:
    """Return each row with the colours it begins with, and reset at its end; blanks without colour at the end go."""
    pen, graphics, done = Pen(), False, []
    for row in rows:
        parts = [pen.sequence]
        at = 0
        for found in _TOKEN.finditer(row):
            parts.append(_drawn(row[at : found.start()], graphics))
            at = found.end()
            if (parameters := found["sgr"]) is not None:
                pen.take(parameters)
                parts.append(found.group())
            elif (shift := found["shift"]) is not None:
                graphics = shift == "\x0e"
        parts.append(_drawn(row[at:], graphics))
        text = "".join(parts)[:ROW_LIMIT]
        done.append(f"{text}\x1b[0m" if "\x1b" in text else text.rstrip(" "))
    return done


def plain(row: str) -> str:
    """Return the characters of a complete row, without its colours."""
    return _TOKEN.sub("", row)


def _colour(word: str, rest: list[str]) -> str:
    """Return a whole colour: 38:2:…, or 38 with the words after it that belong to it."""
    if ":" in word or not rest:
        return word
    taken = [word, rest.pop(0)]
    size = {"5": 1, "2": 3}.get(taken[1], 0)
    taken += rest[:size]
    del rest[:size]
    return ";".join(taken)


def _drawn(text: str, graphics: bool) -> str:
    return text.translate(_GRAPHICS) if graphics else text
