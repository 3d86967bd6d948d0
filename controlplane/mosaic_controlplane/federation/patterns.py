"""A selector of cards as the register reads it: shell patterns become regular expressions of PostgreSQL (pure)."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase

from mosaic_framework.selector import Selector

from mosaic_controlplane.register.peer_claim import Bounds

_LABEL = "label."
_NOTHING = "(?=a)b"
"""Matches nothing at all."""


def bounds(chosen: Selector) -> Bounds:
    """Return which cards a selector chooses, the same that Selector.matches finds by card_facts."""
    classes: tuple[str, ...] | None = None
    missions: tuple[str, ...] | None = None
    labels = []
    for key, patterns in chosen.chosen:
        if key == "class":
            classes = tuple(_whole(pattern) for pattern in patterns)
        elif key == "mission":
            missions = tuple(_whole(pattern) for pattern in patterns)
        else:
            values = "|".join(expression(pattern) for pattern in patterns)
            bare = "?" if any(fnmatchcase("", pattern) for pattern in patterns) else ""  # KEY alone has the value ''
            labels.append(f"^{_literal(key.removeprefix(_LABEL))}(=({values})){bare}$")
    return Bounds(classes, missions, tuple(labels))


def _whole(pattern: str) -> str:
    """Return what matches a value that is there: an empty one is not known, and matched by nothing."""
    return f"^(?=.)({expression(pattern)})$"


def expression(pattern: str) -> str:
    """Return a shell pattern as a regular expression of PostgreSQL, without anchors; as fnmatch reads it."""
    parts = []
    at = 0
    while at < len(pattern):
        character = pattern[at]
        at += 1
        if character == "*":
            parts.append(".*")
        elif character == "?":
            parts.append(".")
        elif character == "[" and (end := _closing(pattern, at)) is not None:
            parts.append(_choice(pattern[at:end]))
            at = end + 1
        else:
            parts.append(_literal(character))
    return "".join(parts)


def _closing(pattern: str, at: int) -> int | None:
    """Return where the bracket that begins before `at` ends; None: it does not, and stands for itself."""
    first = at + 1 if pattern[at : at + 1] == "!" else at
    found = pattern.find("]", first + 1 if pattern[first : first + 1] == "]" else first)
    return None if found < 0 else found


def _choice(inside: str) -> str:
    negated = inside.startswith("!")
    inside = inside[1:] if negated else inside
    pieces = []
    at = 0
    while at < len(inside):
        if at + 2 < len(inside) and inside[at + 1] == "-":
            first, last = inside[at], inside[at + 2]
            if first <= last:
                pieces.append(f"{_inside(first)}-{_inside(last)}")
            at += 3
        else:
            pieces.append(_inside(inside[at]))
            at += 1
    if not pieces:
        return "." if negated else _NOTHING
    return f"[{'^' if negated else ''}{''.join(pieces)}]"


def _inside(character: str) -> str:
    return f"\\{character}" if not character.isalnum() and character.isascii() else character


def _literal(text: str) -> str:
    return "".join(re.escape(character) if character.isascii() else character for character in text)
