"""Every named query has a caller, and every caller a named query."""

from __future__ import annotations

import ast
from pathlib import Path

import mosaic_controlplane.register
import pytest
from mosaic_controlplane.register.sql import parse

REGISTER = Path(mosaic_controlplane.register.__path__[0])
TABLES = sorted(path.stem for path in REGISTER.glob("*.sql") if path.stem != "schema")


def queries_loaded_and_used(module: Path) -> dict[str, set[str]]:
    """Return, for every file that `module` loads by name, the attributes it takes from it."""
    tree = ast.parse(module.read_text())
    loaded: dict[str, str] = {}
    for node in ast.walk(tree):
        match node:
            case ast.Assign(
                targets=[ast.Name(id=variable)],
                value=ast.Call(func=ast.Attribute(attr="load") | ast.Name(id="load"), args=[ast.Constant(value=table)]),
            ):
                loaded[variable] = str(table)
    used: dict[str, set[str]] = {table: set() for table in loaded.values()}
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id=variable), attr=name) if variable in loaded:
                used[loaded[variable]].add(name)
    return used


def everything_used() -> dict[str, set[str]]:
    used: dict[str, set[str]] = {}
    for module in REGISTER.glob("*.py"):
        for table, names in queries_loaded_and_used(module).items():
            used.setdefault(table, set()).update(names)
    return used


@pytest.mark.parametrize("table", TABLES)
def test_the_queries_of_a_file_are_exactly_those_that_modules_use(table: str) -> None:
    defined = set(parse((REGISTER / f"{table}.sql").read_text(), source=f"{table}.sql"))
    assert everything_used().get(table, set()) == defined
