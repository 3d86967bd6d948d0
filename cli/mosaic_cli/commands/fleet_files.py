"""mosaic fleet: init, provision."""

from __future__ import annotations

from typing import Annotated

import typer

from mosaic_cli import data_names, failures, options, output
from mosaic_cli.output import Format

app = typer.Typer()

Runtimes = Annotated[
    list[str] | None,
    typer.Option("--runtime", metavar="[SEAT=]RUNTIME", help="Which program runs what; can be given again."),
]
Force = Annotated[bool, typer.Option("--force", help="Replace a roster that was edited by hand; a backup is kept.")]


@app.command("init")
def init(
    preset: Annotated[str, typer.Option("--preset", help="The kind of fleet.", autocompletion=data_names.presets)] = "",
    runtime: Runtimes = None,
    unattended: Annotated[
        bool | None, typer.Option("--unattended/--attended", help="Whether agents act without asking first.")
    ] = None,
    connector: Annotated[
        str, typer.Option("--connector", help="How people reach it: tmux, discord, matrix, telegram or slack.")
    ] = "",
    connector_field: Annotated[
        list[str] | None,
        typer.Option("--connector-field", metavar="NAME=VALUE", help="Such as room_id; again for each."),
    ] = None,
    working_directory: Annotated[str, typer.Option("--working-directory", help="Where the seats start.")] = "",
    tenant: Annotated[str, typer.Option("--tenant", help="The tenant that the roster is for.")] = "",
    roster: options.Roster = None,
    force: Force = False,
    dry_run: options.DryRun = False,
    yes: options.Yes = False,
    output_form: options.Output = Format.TABLE,
) -> None:
    """Write a roster from a preset: by questions on a terminal, or by flags alone. No AI, no network."""
    from mosaic_cli.init_fleet import InitWish, init_fleet

    wish = InitWish(
        preset=preset,
        runtimes=pairs(runtime, "--runtime", alone="*"),
        unattended=unattended,
        connector=connector,
        connector_fields=pairs(connector_field, "--connector-field"),
        working_directory=working_directory,
        tenant=tenant,
        path=roster,
        force=force,
        dry_run=dry_run,
        yes=yes,
    )
    output.show(init_fleet(wish), output_form)


@app.command("provision")
def provision(
    profile: Annotated[
        str, typer.Option("--profile", metavar="ID", help="Of `mosaic profile ls`.", autocompletion=data_names.profiles)
    ],
    full: Annotated[bool, typer.Option("--full", help="Every seat of the profile; default: its floor.")] = False,
    write: Annotated[bool, typer.Option("--write", help="Write it; default: only show it.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the roster that is there; a backup is kept.")] = False,
    unattended: Annotated[bool, typer.Option("--unattended", help="Agents act without asking first.")] = False,
    runtime: Annotated[
        list[str] | None,
        typer.Option(
            "--runtime", metavar="[CLASS=]RUNTIME[:MODEL]", help="Which program runs what; can be given again."
        ),
    ] = None,
    roster: options.Roster = None,
    output_form: options.Output = Format.TABLE,
) -> None:
    """Show the roster that a profile makes, with who reports to whom; --write writes it."""
    from mosaic_cli.provision_fleet import ProvisionWish, provision_fleet

    wish = ProvisionWish(
        profile=profile,
        full=full,
        write=write,
        force=force,
        unattended=unattended,
        runtimes=pairs(runtime, "--runtime", alone="*"),
        path=roster,
    )
    output.show(provision_fleet(wish), output_form)


def pairs(given: list[str] | None, option: str, *, alone: str = "", empty: bool = False) -> dict[str, str]:
    """Return NAME=VALUE words as a dict; a word without "=" belongs to `alone`. Raises UsageError.

    `empty`: a value may be empty.
    """
    found: dict[str, str] = {}
    for word in given or []:
        name, sign, value = word.partition("=")
        if not sign and alone:
            name, value = alone, word
        if not name or not (value or (sign and empty)):
            raise failures.UsageError(f"{option} {word!r} is not understood", why="say NAME=VALUE")
        if name in found:
            raise failures.UsageError(f"{option} says twice what {name} is")
        found[name] = value
    return found
