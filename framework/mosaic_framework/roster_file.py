"""Reads and writes rosters. Whatever is wrong with one is told at once, each with file, line, key and nearest key."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from mosaic_framework.catalog import Catalog
from mosaic_framework.document import read_bytes, read_tree, validate
from mosaic_framework.errors import NotFound
from mosaic_framework.marked import DocumentInvalid, Problem, Problems
from mosaic_framework.paths import Home
from mosaic_framework.roster_checks import check_roster, warn_roster
from mosaic_framework.roster_model import Roster
from mosaic_framework.runtimes import known_runtimes
from mosaic_framework.splice import dump_yaml

FILE_NAMES = ("roster.yaml", "roster.yml", "roster.json")


class RosterInvalid(DocumentInvalid):
    """The roster is not valid."""

    code = "roster-invalid"


@dataclass(frozen=True, slots=True)
class RosterFile:
    """A roster as read: the model, the text it came from, and warnings, none of which keeps it from being used."""

    roster: Roster
    text: str
    source: str
    warnings: list[Problem]


def roster_path(home: Home) -> Path:
    """Return where this home's roster is; JSON counts only where YAML is absent. Raises NotFound."""
    for name in FILE_NAMES:
        path = home.fleet / name
        if path.exists():
            return path
    raise NotFound(f"there is no roster at {home.fleet / FILE_NAMES[0]}", next_step="mosaic fleet init")


def load_roster(path: Path, *, catalog: Catalog) -> RosterFile:
    """Return the roster at `path`. Raises RosterInvalid, NotFound or FileUnreadable."""
    return parse_roster(read_bytes(path, noun="roster"), source=str(path), catalog=catalog)


def parse_roster(content: bytes | str, *, source: str, catalog: Catalog) -> RosterFile:
    """Return the roster that `content` holds; JSON where `source` ends in .json, else YAML. Raises RosterInvalid."""
    problems = Problems(source)
    tree = read_tree(content, problems)
    if tree is None:
        raise RosterInvalid(source, problems.sorted(), noun="roster")
    check_roster(tree, known_runtimes(catalog), problems)
    roster = validate(tree, Roster, problems)
    if roster is None or problems:
        raise RosterInvalid(source, problems.sorted(), noun="roster")
    warnings = Problems(source)
    warn_roster(tree, warnings)
    text = content if isinstance(content, str) else content.decode("utf-8-sig")
    return RosterFile(roster, text, source, warnings.sorted())


def dump_roster(roster: Roster) -> str:
    """Return the roster as YAML in snake_case. It loads back equal."""
    return dump_yaml(roster.as_written())


def dump_roster_json(roster: Roster) -> str:
    """Return the roster as JSON on one line: the normalised document that `apply` sends and the register keeps."""
    return json.dumps(roster.normalised(), ensure_ascii=False, sort_keys=True, separators=(",", ":"))
