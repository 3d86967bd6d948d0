"""What is wrong with data files, as a listing; and how `validate` ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import typer
from mosaic_framework.errors import EXIT_FAILED
from mosaic_framework.marked import Problem

from mosaic_cli import output
from mosaic_cli.output import Column, Format, Listing, Style


def show_problems(problems: Sequence[Problem], form: Format, *, kind: str, good: str) -> None:
    """Show the problems; ends with 1 where there are any, and says `good` where there are none."""
    columns: list[Column[Problem]] = [
        Column("WHERE", lambda problem: f"{problem.file}:{problem.line}:{problem.column}"),
        Column("PROBLEM", lambda problem: problem.without_file()),
    ]
    listing = Listing(
        kind,
        problems,
        columns,
        name=lambda problem: f"{problem.file}:{problem.line}:{problem.column}",
        document=_document,
        style=lambda _problem: Style.WRONG,
        empty=good,
    )
    output.show(listing, form)
    if problems:
        output.say(f"{len(problems)} problem{'s' if len(problems) != 1 else ''}")
        raise typer.Exit(EXIT_FAILED)


def _document(problem: Problem) -> dict[str, Any]:
    return {
        "file": problem.file,
        "line": problem.line,
        "column": problem.column,
        "key": problem.key,
        "message": problem.message,
        "nearest": problem.nearest,
    }
