"""`mosaic persona diff`: own contracts against the shipped ones, and what changed underneath them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mosaic_framework.catalog import Catalog
from mosaic_framework.overrides import Comparison, compare_override, rebase_override
from mosaic_framework.roles import list_roles

from mosaic_cli import diffs, output
from mosaic_cli.output import Format

_UNDERNEATH = {
    "same": "the shipped contract is as it was when yours began",
    "changed": "the shipped contract has changed since yours began",
    "gone": "the shipped contract is gone; yours is the only one left",
    "never": "no contract of this class is shipped; yours is the only one",
    "unknown": "whether the shipped contract changed is not known: yours was not begun by `mosaic persona edit`",
}


def show_differences(catalog: Catalog, names: Sequence[str], *, seen: bool, form: Format) -> None:
    """Show each own contract named (none: all) against the shipped one. `seen`: take the shipped ones for looked at.

    Raises NotFound: no such class, or no own contract of it.
    """
    wanted = list(names) or [role.class_name for role in list_roles(catalog) if role.source == "override"]
    found = [compare_override(catalog, name) for name in wanted]
    if form in (Format.JSON, Format.YAML):
        output.show(_listing(found), form)
    elif form is Format.NAME:
        output.write("".join(f"{one.class_name}\n" for one in found))
    else:
        if not found:
            output.say("you have no contract of your own; begin one: mosaic persona edit CLASS")
        for one in found:
            _show(one, hint=not seen)
    if seen:
        for one in found:
            if one.shipped is not None:
                rebase_override(catalog, one.class_name)


def _show(one: Comparison, *, hint: bool) -> None:
    output.say(f"{one.class_name}: {_UNDERNEATH[one.underneath]}")
    output.write(diffs.render(one.diff()))
    underneath = one.diff_underneath()
    if underneath:
        output.say(f"{one.class_name}: what changed in the shipped contract meanwhile")
        output.write(diffs.render(underneath))
        if hint and one.shipped is not None:
            output.say(f"take over what you want, then: mosaic persona diff {one.class_name} --seen")


def _listing(found: Sequence[Comparison]) -> output.Listing[Comparison]:
    return output.Listing("PersonaDiffList", found, [], lambda one: one.class_name, _document)


def _document(one: Comparison) -> dict[str, Any]:
    return {
        "class": one.class_name,
        "underneath": one.underneath,
        "shippedDigest": one.shipped.digest if one.shipped else None,
        "baseDigest": one.base.digest if one.base else None,
        "diff": one.diff(),
        "diffUnderneath": one.diff_underneath(),
    }
