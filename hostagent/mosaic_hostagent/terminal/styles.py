"""Rows as `capture-pane -e` prints them: text between codes for its colours and styles (pure)."""

from __future__ import annotations

import re
from collections.abc import Sequence

_CODE = re.compile(r"\x1b\[([0-9;:]*)m|\x1b\]8;[^\x1b\x07]*(?:\x1b\\|\x07)|[\x0e\x0f]")
_FAINT, _NOT_FAINT = "2", ("22", "0", "")
_COLOURS = ("38", "48", "58")


def plain_rows(rows: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the rows without codes, and the same with blanks for what is faint; the latter empty when nothing is."""
    plain, bright, faint, any_faint = [], [], False, False
    for row in rows:
        if "\x1b" not in row and "\x0e" not in row and "\x0f" not in row:
            plain.append(row)
            bright.append(" " * len(row) if faint else row)
            continue
        texts, lit, end = [], [], 0
        for code in [*_CODE.finditer(row), None]:
            text = row[end : code.start() if code is not None else len(row)]
            texts.append(text)
            lit.append(" " * len(text) if faint else text)
            any_faint = any_faint or (faint and bool(text.strip()))
            if code is not None:
                end = code.end()
                faint = _after(code[1], faint)
        plain.append("".join(texts))
        bright.append("".join(lit))
    return plain, bright if any_faint else []


def _after(parameters: str | None, faint: bool) -> bool:
    """Return whether text is faint after a code with these parameters; None: a code that is about something else."""
    if parameters is None:
        return faint
    words = iter(parameters.split(";"))
    for word in words:
        if word in _COLOURS:
            # A colour takes words of its own: 5 and one more, or 2 and three more.
            for _ in range(1 if next(words, "") == "5" else 3):
                next(words, "")
        elif word == _FAINT:
            faint = True
        elif word in _NOT_FAINT:
            faint = False
    return faint
