"""Profiles: which there are, shipped or a person's own, and what is wrong with one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mosaic_framework.catalog import Catalog, DataFile, DataUnreadable
from mosaic_framework.document import read_tree, validate
from mosaic_framework.errors import InvalidInput
from mosaic_framework.marked import DocumentInvalid, Problem, Problems
from mosaic_framework.names import nearest
from mosaic_framework.profile_model import Profile, check_profile
from mosaic_framework.roles import aliases, class_names, read_contract

KIND = "profiles"
SUFFIX = ".yaml"


class ProfileInvalid(DocumentInvalid):
    """The profile is not valid."""

    code = "profile-invalid"


@dataclass(frozen=True, slots=True)
class ProfileEntry:
    """One row of `profile ls`. `profile` is None where it is not valid; `problem` then says why."""

    id: str
    own: bool
    path: Path
    profile: Profile | None
    problem: str = ""


def read_profile(catalog: Catalog, profile_id: str) -> Profile:
    """Return a profile, a person's own before the shipped one. Raises NotFound with the nearest ids, ProfileInvalid."""
    return _read(catalog, catalog.get(KIND, profile_id, SUFFIX))


def parse_profile(text: str, *, source: str, name: str, catalog: Catalog) -> Profile:
    """Return the profile that `text` holds, of the id `name`. Raises ProfileInvalid with every problem."""
    problems = Problems(source)
    tree = read_tree(text, problems)
    profile = validate(tree, Profile, problems) if tree is not None else None
    if tree is not None:
        check_profile(tree, name=name, contract_problem=lambda one: _contract_problem(catalog, one), problems=problems)
    if profile is None or problems:
        raise ProfileInvalid(source, problems.sorted(), noun="profile")
    return profile


def list_profiles(catalog: Catalog) -> list[ProfileEntry]:
    """Return every profile by id, those included that are not valid."""
    return [_entry(catalog, file) for file in catalog.files(KIND, SUFFIX).values()]


def profile_problems(catalog: Catalog, ids: Iterable[str] = ()) -> list[Problem]:
    """Return all that is wrong with these profiles (default: all). Raises NotFound with the nearest ids."""
    wanted = list(ids) or list(catalog.files(KIND, SUFFIX))
    found: list[Problem] = []
    for profile_id in wanted:
        file = catalog.get(KIND, profile_id, SUFFIX)
        try:
            _read(catalog, file)
        except ProfileInvalid as error:
            found += error.problems
        except DataUnreadable as error:
            found.append(Problem(str(file.path), 1, 1, "", f"cannot be read: {error.why}"))
    return found


def _read(catalog: Catalog, file: DataFile) -> Profile:
    return parse_profile(file.read(), source=str(file.path), name=file.name, catalog=catalog)


def _entry(catalog: Catalog, file: DataFile) -> ProfileEntry:
    try:
        return ProfileEntry(file.name, file.own, file.path, _read(catalog, file))
    except InvalidInput as error:
        return ProfileEntry(file.name, file.own, file.path, None, f"{error.what}: {error.why}")


def _contract_problem(catalog: Catalog, class_name: str) -> str:
    """Return why this class has no contract that can be used; empty: it has one."""
    try:
        if read_contract(catalog, class_name) is not None:
            return ""
        near = nearest(class_name, [*class_names(catalog), *aliases(catalog)], limit=1)
    except InvalidInput as error:
        return f"its contract cannot be used: {error.what}"
    return f"there is no contract for this class{f'; the nearest: {near[0]}' if near else ''}"
