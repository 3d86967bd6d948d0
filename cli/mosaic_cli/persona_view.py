"""Roles as listings and things; pure but for reading the library's files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mosaic_framework.catalog import Catalog
from mosaic_framework.contracts import Contract
from mosaic_framework.errors import FleetError
from mosaic_framework.overrides import Underneath, compare_override
from mosaic_framework.roles import Role, aliases, list_roles

from mosaic_cli.output import Column, Listing, Style, Thing

_SOURCES = {
    "same": "yours",
    "changed": "yours, shipped changed",
    "gone": "yours, shipped gone",
    "never": "yours alone",
    "unknown": "yours, base unknown",
}


@dataclass(frozen=True, slots=True)
class PersonaRow:
    """A role, and for a person's own contract what became of the shipped one underneath."""

    role: Role
    underneath: Underneath | None

    @property
    def source(self) -> str:
        """Whose contract counts, in words."""
        return "shipped" if self.role.source == "shipped" else _SOURCES[self.underneath or "unknown"]


def persona_rows(catalog: Catalog, *, domain: str = "", own: bool = False) -> list[PersonaRow]:
    """Return the roles, those of one domain or with a contract of the person's own where asked."""
    rows = []
    for role in list_roles(catalog):
        if (domain and (role.contract is None or role.contract.domain != domain)) or (own and role.source == "shipped"):
            continue
        rows.append(PersonaRow(role, underneath_of(catalog, role)))
    return rows


def underneath_of(catalog: Catalog, role: Role) -> Underneath | None:
    """Return what became of the shipped contract under an override; None: no override, or one that cannot be read."""
    if role.source == "shipped":
        return None
    try:
        return compare_override(catalog, role.class_name).underneath
    except FleetError:  # the row shows the role's own problem
        return None


def persona_listing(rows: Sequence[PersonaRow]) -> Listing[PersonaRow]:
    """Return the listing of `persona ls`."""
    columns: list[Column[PersonaRow]] = [
        Column("CLASS", lambda row: row.role.class_name),
        Column("DOMAIN", lambda row: row.role.contract.domain if row.role.contract else ""),
        Column("SOURCE", lambda row: row.source),
        Column("PERSISTENT", lambda row: _persistent(row.role.contract)),
        Column("SUMMARY", lambda row: row.role.contract.summary if row.role.contract else row.role.problem),
        Column("FILE", lambda row: str(row.role.path), wide=True),
    ]
    return Listing(
        "PersonaList",
        rows,
        columns,
        name=lambda row: row.role.class_name,
        document=row_document,
        style=_style,
        empty="no such role",
    )


def row_document(row: PersonaRow) -> dict[str, Any]:
    """Return a role as JSON, without its text."""
    contract = row.role.contract
    return {
        "class": row.role.class_name,
        "domain": contract.domain if contract else None,
        "source": row.role.source,
        "underneath": row.underneath,
        "persistent": contract.persistent if contract else None,
        "summary": contract.summary if contract else None,
        "digest": contract.digest if contract else None,
        "file": str(row.role.path),
        "problem": row.role.problem,
    }


def persona_thing(catalog: Catalog, contract: Contract, row: PersonaRow | None) -> Thing:
    """Return one contract with its text. `row` None: the shipped one, whatever counts here."""
    also = [alias for alias, target in aliases(catalog).items() if target == contract.class_name]
    body = {
        "class": contract.class_name,
        "domain": contract.domain,
        "source": contract.source,
        "underneath": row.underneath if row else None,
        "persistent": contract.persistent,
        "summary": contract.summary,
        "digest": contract.digest,
        "aliases": also,
        "file": str(row.role.path) if row else None,
        "text": contract.text,
    }
    lines = [
        ("class", contract.class_name),
        ("also", ", ".join(also)),
        ("domain", contract.domain),
        ("persistent", _persistent(contract)),
        ("source", row.source if row else "shipped"),
        ("file", str(row.role.path) if row else ""),
        ("summary", contract.summary),
    ]
    return Thing("Persona", contract.class_name, body, lines, contract.body)


def _persistent(contract: Contract | None) -> str:
    return "" if contract is None else "yes" if contract.persistent else "no"


def _style(row: PersonaRow) -> Style:
    if row.role.contract is None:
        return Style.WRONG
    return Style.ATTENTION if row.underneath in ("changed", "gone") else Style.PLAIN
