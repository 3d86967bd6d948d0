"""How a noun's group of verbs behaves: no verb shows the help, plainly and without colour or markup."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from mosaic_cli import failures


class HelpfulGroup(TyperGroup):
    """A group that answers a bare noun with its help, and an unknown verb with the nearest ones."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse; nothing given means `--help`."""
        if not args and not ctx.resilient_parsing:
            args = ["--help"]
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the verb, or tell the nearest."""
        known = self.list_commands(ctx)
        if args and not args[0].startswith("-") and args[0] not in known and not ctx.resilient_parsing:
            raise failures.unknown_command(args[0], known, noun=str(ctx.info_name))
        return super().resolve_command(ctx, args)


def noun(name: str, help_text: str) -> typer.Typer:
    """Return the empty group of a noun's verbs."""
    app = typer.Typer(name=name, cls=HelpfulGroup, help=help_text, rich_markup_mode=None, add_completion=False)
    # Typer turns a group with one verb into that verb unless it has a callback.
    app.callback(help=help_text)(lambda: None)
    return app


def verb(name: str) -> typer.Typer:
    """Return the app of an everyday verb at the top; its module adds the one command."""
    return typer.Typer(name=name, rich_markup_mode=None, add_completion=False)
