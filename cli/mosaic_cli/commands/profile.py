"""mosaic profile: ls, show, validate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mosaic_cli import data_names, groups, options, output
from mosaic_cli.output import Format

app = groups.noun("profile", "Kinds of systems: which seats they have, and who reports to whom.")

Profile = Annotated[str, typer.Argument(metavar="ID", autocompletion=data_names.profiles)]


@app.command("ls")
def list_all(output_form: options.Output = Format.TABLE) -> None:
    """List the profiles, shipped and yours."""
    from mosaic_framework.catalog import Catalog
    from mosaic_framework.profiles import list_profiles

    from mosaic_cli.profile_view import profile_listing

    output.show(profile_listing(list_profiles(Catalog.open())), output_form)


@app.command("show")
def show(profile_id: Profile, output_form: options.Output = Format.TABLE) -> None:
    """Show a profile and its org chart."""
    from mosaic_framework.catalog import Catalog
    from mosaic_framework.profiles import KIND, SUFFIX, read_profile

    from mosaic_cli.profile_view import profile_thing

    catalog = Catalog.open()
    file = catalog.get(KIND, profile_id, SUFFIX)
    output.show(profile_thing(read_profile(catalog, profile_id), own=file.own, path=file.path), output_form)


@app.command("validate")
def validate(
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="Default: all.", autocompletion=data_names.profiles)
    ] = None,
    file: Annotated[Path | None, typer.Option("--file", "-f", help="A file that is not in place yet.")] = None,
    output_form: options.Output = Format.TABLE,
) -> None:
    """List everything that is wrong with profiles, yours and the shipped ones. Exit 1: something is."""
    from mosaic_framework.catalog import Catalog
    from mosaic_framework.profiles import SUFFIX, ProfileInvalid, parse_profile, profile_problems

    from mosaic_cli.failures import UsageError
    from mosaic_cli.problems_view import show_problems

    catalog = Catalog.open()
    if file is None:
        problems = profile_problems(catalog, ids or [])
    elif ids:
        raise UsageError("name profiles or a file, not both")
    else:
        from mosaic_framework.document import read_bytes

        text = read_bytes(file, noun="profile").decode("utf-8-sig", "replace")
        try:
            parse_profile(text, source=str(file), name=file.name.removesuffix(SUFFIX), catalog=catalog)
            problems = []
        except ProfileInvalid as error:
            problems = error.problems
    show_problems(problems, output_form, kind="ProfileProblemList", good="every profile is valid")
