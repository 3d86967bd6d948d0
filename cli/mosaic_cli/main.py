"""The composition root: a static table of commands, each imported only when it is called for."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperGroup

from mosaic_cli import failures
from mosaic_cli.groups import HelpfulGroup


class Command(NamedTuple):
    """Where a command lives, and what `mosaic --help` says of it without importing it."""

    module: str
    help: str


COMMANDS: dict[str, Command] = {
    "up": Command("up", "Start everything on this machine."),
    "down": Command("down", "Stop everything on this machine; nothing is left running."),
    "status": Command("status", "What runs on this machine, and where its logs are."),
    "doctor": Command("doctor", "Look for what is wrong, and say how to repair it."),
    "login": Command("login", "Log in to a cluster with a one-time token."),
    "context": Command("context", "Clusters this user can reach: ls, use, show."),
    "operator": Command("operator", "People of this tenant: token, ls, role."),
    "tenant": Command("tenant", "Units of isolation in the cluster: create, ls, rm."),
    "audit": Command("audit", "What was done, by whom, from where: ls."),
    "host": Command("host", "Machines: token, join, ls, show, revoke."),
    "peer": Command("peer", "Other clusters: token, join, ls, show, grant, ungrant, role, revoke, rm."),
    "identity": Command("identity", "Who may call: ls, show, revoke."),
    "fleet": Command("fleet", "The roster and its seats: init, provision, add, remove, diff, apply, ps, start, stop."),
    "agent": Command("agent", "One agent: ls, show, explain, report, send, tail, watch, attach."),
    "message": Command("message", "Messages and their receipts: ls, show."),
    "backlog": Command("backlog", "Cards of work: create, ls, show, claim, propose, complete, release, block, stats."),
    "persona": Command("persona", "Role contracts, and yours over them: ls, show, edit, diff, reset, validate."),
    "profile": Command("profile", "Kinds of systems: ls, show, validate."),
    "update": Command("update", "Upgrade this program, and see what changed in its data."),
    "version": Command("version", "Versions of this program and of the cluster."),
}


class LazyCommands(HelpfulGroup):
    """The root: knows its commands by name, imports one when it is run or completed."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002  (typer's signature)
        """Return the names, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002
        """Import and return one command; None for a name that the table does not have."""
        known = self.commands.get(cmd_name)
        if known is None and cmd_name in COMMANDS:
            module = importlib.import_module(f"mosaic_cli.commands.{COMMANDS[cmd_name].module}")
            known = typer.main.get_command(module.app)
            known.name = cmd_name
            self.commands[cmd_name] = known
        return known

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002
        """Write the list of commands from the table alone."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.help) for name, command in COMMANDS.items()])

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:  # noqa: ARG002
        """Complete a command's name from the table alone."""
        from typer.core import CompletionItem  # type: ignore[attr-defined]

        return [
            CompletionItem(name, help=command.help) for name, command in COMMANDS.items() if name.startswith(incomplete)
        ]

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command; an unknown one is told with the nearest names."""
        if args and not args[0].startswith("-") and args[0] not in COMMANDS and not ctx.resilient_parsing:
            raise failures.unknown_command(args[0], COMMANDS)
        return super().resolve_command(ctx, args)


app = typer.Typer(
    name="mosaic",
    cls=LazyCommands,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


@app.callback()
def root(
    debug: Annotated[
        bool, typer.Option("--debug", envvar="MOSAIC_DEBUG", help="Show the traceback of an error.")
    ] = False,
) -> None:
    """Run AI coding agents as durable terminal sessions, with proof of every message."""
    failures.show_tracebacks(debug)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code; console script `mosaic`."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    command = typer.main.get_command(app)
    assert isinstance(command, TyperGroup)
    return failures.guarded(lambda: command.main(given, prog_name="mosaic", standalone_mode=False), arguments=given)


if __name__ == "__main__":
    sys.exit(run())
