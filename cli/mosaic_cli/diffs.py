"""Differences of texts as a person reads them: unified, coloured on a terminal, safe to print."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable

from mosaic_cli.output import colours
from mosaic_cli.text import safe_lines

_COLOURS = {"+": "32", "-": "31", "@": "36"}


def unified(before: str, after: str, *, before_name: str, after_name: str) -> list[str]:
    """Return the unified difference of two texts, a line each without its end; empty where they are equal."""
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), before_name, after_name, lineterm="")
    return list(lines)


def render(lines: Iterable[str]) -> str:
    """Return a unified difference to print; colours only on a terminal."""
    coloured = colours(sys.stdout)
    return "".join(f"{_coloured(safe_lines(line)) if coloured else safe_lines(line)}\n" for line in lines)


def _coloured(line: str) -> str:
    code = _COLOURS.get(line[:1])
    return f"\x1b[{code}m{line}\x1b[0m" if code else line
