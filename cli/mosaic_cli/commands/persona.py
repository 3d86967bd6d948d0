"""mosaic persona: ls, show, edit, diff, reset, validate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mosaic_cli import data_names, groups, options, output
from mosaic_cli.output import Format

app = groups.noun("persona", "Role contracts: what each class of agent does, and what you changed in them.")

Class = Annotated[str, typer.Argument(help="A class, or its alias.", autocompletion=data_names.classes)]
Classes = Annotated[
    list[str] | None, typer.Argument(metavar="[CLASS]...", help="Default: all.", autocompletion=data_names.classes)
]


@app.command("ls")
def list_personas(
    output_form: options.Output = Format.TABLE,
    domain: Annotated[str, typer.Option("--domain", help="Only of this domain, such as engineering.")] = "",
    own: Annotated[bool, typer.Option("--own", help="Only those with a contract of yours.")] = False,
) -> None:
    """List the roles, whose contract counts, and where the shipped one changed under yours."""
    from mosaic_framework.catalog import Catalog

    from mosaic_cli.persona_view import persona_listing, persona_rows

    output.show(persona_listing(persona_rows(Catalog.open(), domain=domain, own=own)), output_form)


@app.command("show")
def show(
    name: Class,
    shipped: Annotated[bool, typer.Option("--shipped", help="The shipped contract, even where yours counts.")] = False,
    output_form: options.Output = Format.TABLE,
) -> None:
    """Show the contract that counts for a class."""
    from mosaic_framework.catalog import Catalog
    from mosaic_framework.errors import NotFound
    from mosaic_framework.roles import get_contract, list_roles, read_shipped_contract, resolve_class

    from mosaic_cli.persona_view import PersonaRow, persona_thing, underneath_of

    catalog = Catalog.open()
    if shipped:
        found = read_shipped_contract(catalog, resolve_class(catalog, name) or name)
        if found is None:
            raise NotFound(f"there is no shipped contract of {name[:80]!r}", next_step="mosaic persona ls")
        output.show(persona_thing(catalog, found, None), output_form)
        return
    contract = get_contract(catalog, name)
    role = next(role for role in list_roles(catalog) if role.class_name == contract.class_name)
    row = PersonaRow(role, underneath_of(catalog, role))
    output.show(persona_thing(catalog, contract, row), output_form)


@app.command("edit")
def edit(
    name: Class,
    file: Annotated[
        Path | None, typer.Option("--file", "-f", help="Take the contract from this file; - is standard input.")
    ] = None,
) -> None:
    """Change a contract: yours begins as the shipped one, and opens in $VISUAL or $EDITOR."""
    from mosaic_framework.catalog import Catalog

    from mosaic_cli.persona_edit import edit_persona

    edit_persona(Catalog.open(), name, file=file)


@app.command("diff")
def diff(
    names: Classes = None,
    seen: Annotated[
        bool,
        typer.Option("--seen", help="You have looked: from now on, tell of later changes of the shipped one only."),
    ] = False,
    output_form: options.Output = Format.TABLE,
) -> None:
    """Show what your contracts change in the shipped ones, and what changed in those since you began."""
    from mosaic_framework.catalog import Catalog

    from mosaic_cli.persona_diff import show_differences

    show_differences(Catalog.open(), names or [], seen=seen, form=output_form)


@app.command("reset")
def reset(
    name: Class,
    dry_run: options.DryRun = False,
    yes: options.Yes = False,
) -> None:
    """Remove your contract of a class, so that the shipped one counts again."""
    from mosaic_framework.catalog import Catalog
    from mosaic_framework.overrides import end_override, override_path
    from mosaic_framework.roles import KIND, SUFFIX, get_contract, resolve_class

    from mosaic_cli.asking import agree

    catalog = Catalog.open()
    class_name = resolve_class(catalog, name) or get_contract(catalog, name).class_name
    file = catalog.get(KIND, class_name, SUFFIX)
    if not file.own:
        output.say(f"nothing to do: {class_name} works under the shipped contract")
        return
    alone = catalog.find_shipped(KIND, class_name, SUFFIX) is None
    after = "the class then has no contract" if alone else "the shipped contract then counts"
    path = override_path(catalog, class_name)
    if dry_run:
        output.say(f"would remove {path}; {after}")
        return
    agree(f"remove {path} ({after})", yes=yes)
    end_override(catalog, class_name)
    output.say(f"removed {path}: {after}")


@app.command("validate")
def validate(names: Classes = None, output_form: options.Output = Format.TABLE) -> None:
    """List everything that is wrong with contracts, yours and the shipped ones. Exit 1: something is."""
    from mosaic_framework.catalog import Catalog
    from mosaic_framework.contracts import ContractInvalid
    from mosaic_framework.roles import get_contract, resolve_class, role_problems

    from mosaic_cli.problems_view import show_problems

    catalog = Catalog.open()
    classes = []
    for name in names or []:
        try:
            classes.append(resolve_class(catalog, name) or get_contract(catalog, name).class_name)
        except ContractInvalid:  # it is there; what is wrong with it is listed below
            classes.append(name)
    show_problems(
        role_problems(catalog, classes), output_form, kind="PersonaProblemList", good="every contract is valid"
    )
