"""Text for people: widths on a terminal, ages, durations, nothing that could move a cursor."""

from __future__ import annotations

import datetime as dt
import re
import unicodedata

import typer

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)?")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, None: 1.0}


def printable(text: str) -> str:
    """Return `text` on one line without control characters: what others wrote must not drive this terminal."""
    if text.isascii() and text.isprintable():
        return text  # nearly every cell of a long table
    return "".join(" " if character.isspace() else character for character in text if _shown(character))


def safe_lines(text: str) -> str:
    """Return `text` with its line breaks and tabs kept and every other control character left out."""
    return "".join(character for character in text if character in "\n\t" or unicodedata.category(character) != "Cc")


def width(text: str) -> int:
    """Return how many terminal cells `text` takes."""
    return len(text) if text.isascii() else sum(cells(character) for character in text)


def pad(text: str, size: int) -> str:
    """Return `text` filled with blanks to `size` cells."""
    return text + " " * (size - width(text))


def cut(text: str, size: int) -> str:
    """Return `text` cut to `size` cells; an ellipsis stands for what is missing."""
    if width(text) <= size:
        return text
    kept, used = [], 0
    for character in text:
        used += cells(character)
        if used > size - 1:
            break
        kept.append(character)
    return "".join(kept) + "…"


def age(seconds: float | None) -> str:
    """Return a length of time in one or two units: `40ms`, `12s`, `3m`, `2h05m`, `5d`. None is unknown: empty."""
    if seconds is None:
        return ""
    seconds = max(seconds, 0.0)
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms"
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02}m"
    return f"{whole // 86400}d"


def duration(value: str) -> float:
    """Return the seconds of `30`, `30s`, `5m`, `1.5h`, `500ms` or `2d`; for command-line options."""
    found = _DURATION.fullmatch(str(value).strip())
    if not found:
        raise typer.BadParameter(f"{value!r} is no length of time; write for example 30s, 5m or 2h")
    return float(found[1]) * _SECONDS[found[2]]


def local_time(moment: dt.datetime | None) -> str:
    """Return a moment in the local time zone, to the second; empty for none."""
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S") if moment else ""


def local_clock() -> str:
    """Return the time of day here, to the second."""
    return dt.datetime.now().astimezone().strftime("%H:%M:%S")


def _shown(character: str) -> bool:
    return character.isspace() or unicodedata.category(character) not in ("Cc", "Cf")


def cells(character: str) -> int:
    """Return how many terminal cells one character takes."""
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1
