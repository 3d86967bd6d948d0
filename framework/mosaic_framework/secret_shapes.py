"""Secrets that a text holds, by their shape: found before it leaves, told by kind and line and never shown.

The shapes are data: secret_shapes.toml. This is a net for accidents. A secret without a shape goes through it, and who
means to send one says so.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

from mosaic_framework.errors import InvalidInput

MOST_FINDINGS = 20


class SecretInText(InvalidInput):
    """The text holds what looks like a secret."""

    code = "secret-in-text"
    hint = "take it out and tell the agent where to find it; if it is meant to be sent: --allow-secrets"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that looks like a secret. `line` counts from 1."""

    kind: str
    line: int


@dataclass(frozen=True, slots=True)
class Shape:
    """One entry of the data file."""

    kind: str
    hint: str
    pattern: re.Pattern[str]
    bits: float
    digits: int

    def fits(self, match: re.Match[str]) -> bool:
        """Whether what matched is random enough."""
        if not (self.bits or self.digits):
            return True
        value = match["value"]
        return entropy(value) >= self.bits and sum(character.isdigit() for character in value) >= self.digits


def find(text: str) -> list[Finding]:
    """Return what of `text` looks like a secret, by line, one for each kind and line; at most MOST_FINDINGS."""
    lowered = text.lower()
    found = {
        Finding(shape.kind, text.count("\n", 0, match.start()) + 1)
        for shape in shapes()
        if shape.hint in lowered
        for match in shape.pattern.finditer(text)
        if shape.fits(match)
    }
    return sorted(found, key=lambda finding: (finding.line, finding.kind))[:MOST_FINDINGS]


def refuse(text: str) -> None:
    """Raise SecretInText when `text` holds what looks like a secret."""
    found = find(text)
    if found:
        raise SecretInText(f"the message holds what looks like a secret: {told(found)}", why="nothing was sent")


def told(found: Sequence[Finding]) -> str:
    """Return findings as a person reads them: kinds and lines."""
    return ", ".join(f"{finding.kind} (line {finding.line})" for finding in found)


def entropy(text: str) -> float:
    """Return the Shannon entropy of the characters of `text`, in bits a character."""
    size = len(text)
    return -sum(count / size * math.log2(count / size) for count in Counter(text).values()) if size else 0.0


@cache
def shapes() -> tuple[Shape, ...]:
    """Return the shapes, in the order of the data file."""
    content = tomllib.loads(resources.files(__package__).joinpath("secret_shapes.toml").read_text(encoding="utf-8"))
    return tuple(
        Shape(
            kind=str(entry["kind"]),
            hint=str(entry["hint"]),
            pattern=re.compile(str(entry["pattern"])),
            bits=float(entry.get("bits", 0)),
            digits=int(entry.get("digits", 0)),
        )
        for entry in content["shape"]
    )
