"""Asking a person one thing at a time: a choice from a list with a line of explanation each, a text, yes or no.

Everything goes to stderr. An answer that does not fit is told, and asked again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import typer
from mosaic_framework.names import nearest

from mosaic_cli import output
from mosaic_cli.text import pad, width


def choose(question: str, choices: Mapping[str, str], *, default: str) -> str:
    """Return one of `choices` (name → explanation), by its name or its number."""
    output.say(f"\n{question}")
    size = max(width(name) for name in choices)
    for number, (name, explanation) in enumerate(choices.items(), start=1):
        output.say(f"  {number:>2}  {pad(name, size)}  {explanation}".rstrip())
    names = list(choices)

    def check(answer: str) -> str | None:
        if answer.isdecimal() and 1 <= int(answer) <= len(names):
            return names[int(answer) - 1]
        return answer if answer in choices else None

    def wrong(answer: str) -> str:
        near = nearest(answer, names, limit=1)
        return f"there is no {answer[:40]!r}" + (f"; the nearest is {near[0]}" if near else "")

    return _ask("name or number", default, check, wrong)


def text(question: str, *, default: str = "") -> str:
    """Return a line of text; an empty one only where there is a default."""
    return _ask(question, default, lambda answer: answer or None, lambda _answer: "it must not be empty")


def agreed(question: str, *, default: bool = False) -> bool:
    """Return whether the person said yes."""
    return typer.confirm(question, default=default, err=True)


def _ask(label: str, default: str, check: Callable[[str], str | None], wrong: Callable[[str], str]) -> str:
    while True:
        answer = str(typer.prompt(label, default=default or None, err=True)).strip()
        found = check(answer)
        if found is not None:
            return found
        output.say(wrong(answer))
