"""Rows as `capture-pane -e` prints them: text between codes for its colours and styles (pure)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

_CODE = re.compile(r"\x1b\[([0-9;:]*)m|\x1b\]8;[^\x1b\x07]*(?:\x1b\\|\x07)|[\x0e\x0f]")
_COLOURS = ("38", "48", "58")


@dataclass(frozen=True, slots=True)
class _Style:
    faint: bool = False
    reverse: bool = False


@dataclass(frozen=True, slots=True)
class _Run:
    text: str
    style: _Style


def plain_rows(rows: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the rows without codes, and the same with blanks for what is faint; the latter empty when nothing is.

    One reversed character before faint text is a cursor that the program draws on its suggestion: it is blank, too.
    """
    plain, bright, style, any_faint = [], [], _Style(), False
    for row in rows:
        runs, style = _runs(row, style)
        plain.append("".join(run.text for run in runs))
        any_faint = any_faint or any(run.style.faint and run.text.strip() for run in runs)
        bright.append("".join(" " * len(run.text) if _is_faint(runs, at) else run.text for at, run in enumerate(runs)))
    return plain, bright if any_faint else []


def _runs(row: str, style: _Style) -> tuple[list[_Run], _Style]:
    if "\x1b" not in row and "\x0e" not in row and "\x0f" not in row:
        return [_Run(row, style)], style
    runs, end = [], 0
    for code in _CODE.finditer(row):
        if code.start() > end:
            runs.append(_Run(row[end : code.start()], style))
        end, style = code.end(), _after(code[1], style)
    return [*runs, _Run(row[end:], style)], style


def _is_faint(runs: Sequence[_Run], at: int) -> bool:
    run = runs[at]
    follows = runs[at + 1].style.faint if at + 1 < len(runs) else False
    return run.style.faint or (run.style.reverse and len(run.text) == 1 and follows)


def _after(parameters: str | None, style: _Style) -> _Style:
    """Return the style after a code with these parameters; None: a code that is about something else."""
    if parameters is None:
        return style
    words = iter(parameters.split(";"))
    for word in words:
        if word in _COLOURS:
            # A colour takes words of its own: 5 and one more, or 2 and three more.
            for _ in range(1 if next(words, "") == "5" else 3):
                next(words, "")
        elif word in ("", "0"):
            style = _Style()
        elif word in ("2", "22"):
            style = replace(style, faint=word == "2")
        elif word in ("7", "27"):
            style = replace(style, reverse=word == "7")
    return style
