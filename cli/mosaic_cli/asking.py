"""Asking a person before something is destroyed."""

from __future__ import annotations

import sys

import typer

from mosaic_cli.failures import UsageError


class NotAgreed(typer.Exit):
    """The person said no: nothing was done."""


def agree(question: str, *, yes: bool) -> None:
    """Return when it may go on. Off a terminal without --yes it may not; "no" ends the command with 1."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError(
            f"this would {question}",
            why="it was not agreed to, and there is no terminal to ask on",
            next_step="say --yes, or see first with --dry-run",
        )
    if not typer.confirm(f"{question}?", err=True):
        raise NotAgreed(1)
