"""`mosaic fleet init`: questions or flags, then a roster file; the same answers twice change nothing."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mosaic_framework.catalog import Catalog
from mosaic_framework.errors import FleetError, NotFound
from mosaic_framework.paths import Home
from mosaic_framework.presets import Preset, list_presets, read_preset
from mosaic_framework.programs import installed
from mosaic_framework.reseed import reseed
from mosaic_framework.roster_file import RosterFile
from mosaic_framework.roster_write import Writing, plan_writing, roster_target
from mosaic_framework.runtimes import known_runtimes, read_manifest
from mosaic_framework.wizard import (
    CONNECTORS,
    DEFAULT_PRESET,
    UNATTENDED,
    Answers,
    compose,
    connector_fields,
    next_steps,
    runtime_choices,
    says_same,
)

from mosaic_cli import output, questions
from mosaic_cli.output import Thing
from mosaic_cli.roster_writing import finish


@dataclass(frozen=True, slots=True)
class InitWish:
    """What the command line says. None and empty: not said, so that it is asked, or taken as it comes."""

    preset: str = ""
    runtimes: Mapping[str, str] = field(default_factory=dict)
    unattended: bool | None = None
    connector: str = ""
    connector_fields: Mapping[str, str] = field(default_factory=dict)
    working_directory: str = ""
    tenant: str = ""
    path: Path | None = None
    force: bool = False
    dry_run: bool = False
    yes: bool = False


def init_fleet(wish: InitWish) -> Thing:
    """Ask what was not said, write the roster, and return what was done and what to run next.

    Raises AnswerInvalid, NotFound with the nearest names, PresetFloorBroken, RosterHandEdited.
    """
    home = Home.from_environment()
    catalog = Catalog.open(home)
    found = find_runtimes(catalog)
    asks = sys.stdin.isatty() and not wish.yes
    preset = _preset(wish, catalog, asks=asks)
    answers = _answers(wish, preset, catalog, found, asks=asks)
    target = roster_target(home, wish.path)
    usual = is_usual(home, target)
    made = compose(preset, answers, catalog, source=str(target), with_schema=usual)
    writing = _plan(home, target, made, catalog)
    if usual and not wish.dry_run:
        home.fleet.mkdir(mode=0o700, parents=True, exist_ok=True)
        reseed(home, catalog, only_seed=True)
    steps = next_steps(made.roster, found, catalog, path="" if usual else str(target))
    return finish(home, writing, made.roster, steps, force=wish.force, dry_run=wish.dry_run, ask=asks, yes=wish.yes)


def find_runtimes(catalog: Catalog) -> dict[str, str | None]:
    """Return every runtime with the path of its program on this machine, or None."""
    found: dict[str, str | None] = {}
    for name in known_runtimes(catalog):
        try:
            found[name] = installed(read_manifest(catalog, name))
        except FleetError as error:
            output.say(f"warning: the runtime {name} is left out: {error.what}")
    return found


def is_usual(home: Home, target: Path) -> bool:
    """Return whether a roster lies where this home keeps its own."""
    return target.parent.resolve() == home.fleet.resolve()


def _plan(home: Home, target: Path, made: RosterFile, catalog: Catalog) -> Writing:
    def same(content: bytes) -> bool:
        return says_same(content, made.roster, source=str(target), catalog=catalog)

    return plan_writing(home, target, made.text, says_same=same)


def _preset(wish: InitWish, catalog: Catalog, *, asks: bool) -> Preset:
    if wish.preset or not asks:
        return read_preset(catalog, wish.preset or DEFAULT_PRESET)
    usable = {entry.id: entry.preset for entry in list_presets(catalog) if entry.preset is not None}
    if not usable:
        raise NotFound("no preset can be used", next_step="mosaic doctor")
    explained = {name: preset.summary for name, preset in usable.items()}
    default = DEFAULT_PRESET if DEFAULT_PRESET in explained else next(iter(explained))
    return usable[questions.choose("What kind of fleet is it?", explained, default=default)]


def _answers(
    wish: InitWish, preset: Preset, catalog: Catalog, found: Mapping[str, str | None], *, asks: bool
) -> Answers:
    runtimes = dict(wish.runtimes) or _runtimes(preset, catalog, found, asks=asks)
    unattended = wish.unattended
    if unattended is None:
        if asks:
            output.say(f"\nUnattended: {UNATTENDED}.")
        unattended = asks and questions.agreed("Let the agents act unattended?")
    kind = wish.connector or ("tmux" if not asks else _connector())
    block = {"kind": kind, **wish.connector_fields}
    for name in connector_fields(kind) if asks else ():
        if not block.get(name):
            block[name] = questions.text(f"{kind} {name.replace('_', ' ')}")
    folder = wish.working_directory
    if not folder and asks:
        output.say("\nWorking directory: where the seats start, on their own host; begins with / or ~.")
        folder = questions.text("working directory", default=preset.roster.defaults.working_directory)
    return Answers(preset.id, runtimes, unattended, block, folder, wish.tenant)


def _connector() -> str:
    return questions.choose("How do people reach it from outside?", CONNECTORS, default="tmux")


def _runtimes(preset: Preset, catalog: Catalog, found: Mapping[str, str | None], *, asks: bool) -> dict[str, str]:
    """Return which runtime stands in for which: as chosen, or what is installed for what is not."""
    chosen = {}
    titles = {name: _described(name, catalog, found) for name in found if name != "shell"}
    for choice in runtime_choices(preset, found, catalog):
        seats = ", ".join(choice.seats)
        if asks:
            question = f"Which program runs {seats}? The preset says {choice.name}."
            offered = titles if choice.suggested in titles else {choice.suggested: "", **titles}
            picked = questions.choose(question, offered, default=choice.suggested)
        else:
            picked = choice.suggested
            if picked != choice.name:
                keep = f"--runtime {choice.name}={choice.name}"
                output.say(f"{choice.name} is not found here: {picked} runs {seats}; to keep it: {keep}")
        if picked != choice.name:
            chosen[choice.name] = picked
    return chosen


def _described(name: str, catalog: Catalog, found: Mapping[str, str | None]) -> str:
    return f"{read_manifest(catalog, name).title}, {found[name] or 'not found on this machine'}"
