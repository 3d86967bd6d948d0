"""The locks: what only runs is locked as the whole is, and nothing that it needs is left out."""

from __future__ import annotations

import re
import tomllib
from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.checkout import ROOT


def locked(name: str) -> dict[str, str]:
    found = re.findall(r"^([a-z0-9._-]+)==(\S+)", (ROOT / name).read_text(), re.MULTILINE)
    return {canonicalize_name(package): version for package, version in found}


def needed(requirements: list[str]) -> set[str]:
    """What these need here, and what that needs in turn."""
    found: set[str] = set()
    left = [Requirement(one) for one in requirements]
    while left:
        one = left.pop()
        name = canonicalize_name(one.name)
        if name in found or (one.marker is not None and not one.marker.evaluate({"extra": ""})):
            continue
        found.add(name)
        left += map(Requirement, metadata.requires(name) or [])
    return found


def test_what_runs_is_locked_with_all_that_it_needs_and_in_the_versions_that_are_tested() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    run, everything = locked("requirements-run.lock"), locked("requirements.lock")
    assert needed(project["dependencies"]) - run.keys() == set(), "script/lock was not run"
    assert {name: version for name, version in run.items() if everything.get(name) != version} == {}
