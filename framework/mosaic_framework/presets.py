"""Presets: ready rosters to begin with, shipped or a person's own. Each is a roster file with one line of explanation.

The explanation is the comment at the top of the file, so that a preset stays nothing but a roster.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mosaic_framework.catalog import Catalog, DataFile
from mosaic_framework.errors import FleetError
from mosaic_framework.roles import resolve_class
from mosaic_framework.roster_file import parse_roster
from mosaic_framework.roster_model import Roster

KIND = "presets"
SUFFIX = ".yaml"
# The one preset that may have no orchestrator: it only shows that a machine works.
WITHOUT_FLOOR = frozenset({"minimal"})


class PresetFloorBroken(FleetError):
    """This preset does not keep the floor that every fleet keeps."""

    code = "preset-floor-broken"


@dataclass(frozen=True, slots=True)
class Preset:
    """A preset. `text` is the roster file as it is to be written, comments included."""

    id: str
    summary: str
    text: str
    path: Path
    own: bool
    roster: Roster


@dataclass(frozen=True, slots=True)
class PresetEntry:
    """One row of a list of presets. `preset` is None where it cannot be used; `problem` then says why."""

    id: str
    own: bool
    path: Path
    preset: Preset | None
    problem: str = ""


def list_presets(catalog: Catalog) -> list[PresetEntry]:
    """Return every preset by id, those included that cannot be used."""
    return [_entry(catalog, file) for file in catalog.files(KIND, SUFFIX).values()]


def read_preset(catalog: Catalog, preset_id: str) -> Preset:
    """Return a preset. Raises NotFound with the nearest ids, RosterInvalid, PresetFloorBroken."""
    return _preset(catalog, catalog.get(KIND, preset_id, SUFFIX))


def floor_problem(classes: Iterable[str]) -> str:
    """Return what is wrong with a fleet of these classes: one orchestrator, at least one enhancer. Empty: nothing."""
    held = list(classes)
    orchestrators, enhancers = held.count("orchestrator"), held.count("enhancer")
    told = []
    if orchestrators != 1:
        told.append(f"it has {orchestrators or 'no'} orchestrator{'s' if orchestrators > 1 else ''} and must have one")
    if not enhancers:
        told.append("it has no enhancer and must have at least one")
    return "; ".join(told)


def _entry(catalog: Catalog, file: DataFile) -> PresetEntry:
    try:
        return PresetEntry(file.name, file.own, file.path, _preset(catalog, file))
    except FleetError as error:
        return PresetEntry(file.name, file.own, file.path, None, f"{error.what}: {error.why}")


def _preset(catalog: Catalog, file: DataFile) -> Preset:
    text = file.read()
    roster = parse_roster(text, source=str(file.path), catalog=catalog).roster
    classes = [resolve_class(catalog, agent.class_) or agent.class_ for agent in roster.agents]
    problem = "" if file.name in WITHOUT_FLOOR else floor_problem(classes)
    if problem:
        raise PresetFloorBroken(
            f"preset {file.name} does not keep the floor", why=problem, next_step=f"edit {file.path}"
        )
    return Preset(file.name, _summary(text), text, file.path, file.own, roster)


def _summary(text: str) -> str:
    """Return the comment that the file begins with, in one line."""
    lines = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("#").strip())
    return " ".join(lines)
