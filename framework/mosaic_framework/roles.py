"""The role library: which contracts there are, under which names, and whose version counts.

A person's own `$MOSAIC_HOME/fleet/roles.local/<class>.md` wins over the shipped contract of that class.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mosaic_framework.catalog import Catalog, DataFile, DataUnreadable
from mosaic_framework.contracts import (
    RESERVED,
    Contract,
    Source,
    contract_problems,
    digest_of,
    is_class_name,
    parse_contract,
    plain_lines,
)
from mosaic_framework.document import read_tree
from mosaic_framework.errors import InvalidInput, NotFound
from mosaic_framework.marked import DocumentInvalid, MapNode, Position, Problem, Problems, ScalarNode
from mosaic_framework.names import nearest

KIND = "roles"
SUFFIX = ".md"
SHARED = "CONTRACT"
ALIASES = "aliases"


class AliasesInvalid(DocumentInvalid):
    """The list of aliases is not valid."""

    code = "aliases-invalid"


@dataclass(frozen=True, slots=True)
class Role:
    """One row of the library. `contract` is None where the file cannot be read; `problem` then says why."""

    class_name: str
    source: Source
    path: Path
    contract: Contract | None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class SharedContract:
    """The contract that every agent works under, beside its role's."""

    text: str
    digest: str
    source: Source


def class_names(catalog: Catalog) -> list[str]:
    """Return every class that has a contract, shipped or a person's own, sorted."""
    return [stem for stem in catalog.files(KIND, SUFFIX) if is_class_name(stem)]


def aliases(catalog: Catalog) -> dict[str, str]:
    """Return alias → class, shipped ones first, a person's own (`roles.local/aliases.yaml`) over them.

    Raises AliasesInvalid.
    """
    merged: dict[str, str] = {}
    shipped = catalog.find_shipped(KIND, ALIASES, ".yaml")
    effective = catalog.find(KIND, ALIASES, ".yaml")
    for file in dict.fromkeys(one for one in (shipped, effective) if one is not None):
        merged |= _read_aliases(file)
    return merged


def resolve_class(catalog: Catalog, name: str) -> str | None:
    """Return the class whose contract the class name or alias `name` means, or None. A contract wins over an alias."""
    if is_class_name(name) and catalog.find(KIND, name, SUFFIX) is not None:
        return name
    target = aliases(catalog).get(name)
    return target if target is not None and catalog.find(KIND, target, SUFFIX) is not None else None


def read_contract(catalog: Catalog, class_name: str) -> Contract | None:
    """Return the contract that counts for a class or alias, or None where there is none.

    Raises ContractInvalid, DataUnreadable: there is one, and it cannot be used.
    """
    resolved = resolve_class(catalog, class_name)
    file = catalog.find(KIND, resolved, SUFFIX) if resolved is not None else None
    return _contract(file) if file is not None else None


def get_contract(catalog: Catalog, class_name: str) -> Contract:
    """Return the contract that counts for a class or alias. Raises NotFound with the nearest names."""
    found = read_contract(catalog, class_name)
    if found is None:
        near = nearest(class_name, [*class_names(catalog), *aliases(catalog)])
        raise NotFound(
            f"there is no role {class_name[:80]!r}",
            why=f"the nearest: {', '.join(near)}" if near else "",
            next_step="see them all: mosaic persona ls",
            details={"nearest": ",".join(near)},
        )
    return found


def read_shipped_contract(catalog: Catalog, class_name: str) -> Contract | None:
    """Return the shipped contract of a class (no alias), whatever a person's own layer holds, or None."""
    file = catalog.find_shipped(KIND, class_name, SUFFIX) if is_class_name(class_name) else None
    return _contract(file) if file is not None else None


def shared_contract(catalog: Catalog) -> SharedContract:
    """Return the contract that every agent shares; a person's own `roles.local/CONTRACT.md` wins."""
    file = catalog.get(KIND, SHARED, SUFFIX)
    text = plain_lines(file.read())
    return SharedContract(text, digest_of(text), _source(file))


def list_roles(catalog: Catalog) -> list[Role]:
    """Return every role by class, those included whose contract cannot be read."""
    return [_role(catalog.get(KIND, name, SUFFIX)) for name in class_names(catalog)]


def role_problems(catalog: Catalog, names: Iterable[str] = ()) -> list[Problem]:
    """Return all that is wrong with the contracts of these classes (default: the whole library, aliases included)."""
    classes = class_names(catalog)
    wanted = list(names)
    problems: list[Problem] = []
    for stem, file in catalog.files(KIND, SUFFIX).items():
        if (wanted and stem not in wanted) or stem in RESERVED:
            continue
        if not is_class_name(stem):
            told = "a role's file must be named in lower-case words joined by hyphens; nobody finds this one"
            problems.append(Problem(str(file.path), 1, 1, "", told))
            continue
        try:
            text = file.read()
        except DataUnreadable as error:
            problems.append(Problem(str(file.path), 1, 1, "", f"cannot be read: {error.why}"))
            continue
        problems += contract_problems(text, name=stem, file=str(file.path), classes=classes)
    return problems if wanted else problems + _alias_problems(catalog, classes)


def _contract(file: DataFile) -> Contract:
    return parse_contract(file.read(), name=file.name, file=str(file.path), source=_source(file))


def _source(file: DataFile) -> Source:
    return "override" if file.own else "shipped"


def _role(file: DataFile) -> Role:
    try:
        return Role(file.name, _source(file), file.path, _contract(file))
    except InvalidInput as error:
        return Role(file.name, _source(file), file.path, None, f"{error.what}: {error.why}")


def _read_aliases(file: DataFile) -> dict[str, str]:
    problems = Problems(str(file.path))
    tree = read_tree(file.read(), problems)
    found: dict[str, str] = {}
    if tree is not None and not isinstance(tree, MapNode):
        problems.add(tree.at, "must hold one 'alias: class' a line")
    for entry in tree.entries.values() if isinstance(tree, MapNode) else ():
        value = entry.node.value if isinstance(entry.node, ScalarNode) else None
        if isinstance(value, str) and is_class_name(value) and is_class_name(entry.key):
            found[entry.key] = value
        else:
            problems.add(entry.at, "alias and class must be lower-case words joined by hyphens", key=entry.key)
    if problems:
        raise AliasesInvalid(str(file.path), problems.sorted(), noun="list of aliases")
    return found


def _alias_problems(catalog: Catalog, classes: list[str]) -> list[Problem]:
    try:
        known = aliases(catalog)
    except AliasesInvalid as error:
        return error.problems
    file = catalog.find(KIND, ALIASES, ".yaml")
    problems = Problems(str(file.path) if file is not None else ALIASES)
    for alias, target in known.items():
        if target not in classes:
            near = nearest(target, classes, limit=1)
            problems.add(Position(1, 1), f"there is no role {target}", key=alias, nearest=near[0] if near else "")
    return problems.sorted()
