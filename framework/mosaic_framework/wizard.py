"""`fleet init` without its prompts: the choices, what each means in a line, and the roster that answers make.

No AI, no network, no guess that is not shown: pure but for reading data files. Whether a runtime is installed is told
to it from outside.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from mosaic_framework.catalog import Catalog
from mosaic_framework.errors import InvalidInput, NotFound
from mosaic_framework.names import nearest
from mosaic_framework.presets import WITHOUT_FLOOR, Preset, PresetFloorBroken, floor_problem
from mosaic_framework.roles import resolve_class
from mosaic_framework.roster_checks import TOKENS
from mosaic_framework.roster_file import RosterFile, RosterInvalid, dump_roster, dump_roster_json, parse_roster
from mosaic_framework.roster_model import Agent, Connector, Roster
from mosaic_framework.runtimes import known_runtimes, read_manifest

DEFAULT_PRESET = "general"
# In which order a runtime that is installed stands in for one that is not.
PREFERRED = ("claude", "codex", "opencode", "pi")
SCHEMA_LINE = "# yaml-language-server: $schema=schema/roster.schema.json\n"
CONNECTORS = {
    "tmux": "no connection to the outside: people attach to the sessions, or use `mosaic agent send`",
    "discord": "people talk to the fleet in a Discord channel",
    "matrix": "people talk to the fleet in a Matrix room",
    "telegram": "people talk to the fleet in a Telegram chat",
    "slack": "people talk to the fleet in a Slack channel",
}
UNATTENDED = "agents act without asking first; only for machines and accounts where nothing can be lost"


class AnswerInvalid(InvalidInput):
    """An answer does not fit."""

    code = "answer-invalid"


@dataclass(frozen=True, slots=True)
class Answers:
    """All that the wizard asks.

    `runtimes`: runtime, agent or class of the preset → the runtime to use, "*" for every seat. `connector`: its fields
    as text, `kind` among them; empty or of kind tmux: none. Empty texts: as the preset has it.
    """

    preset: str
    runtimes: Mapping[str, str] = field(default_factory=dict)
    unattended: bool = False
    connector: Mapping[str, str] = field(default_factory=dict)
    working_directory: str = ""
    tenant: str = ""


@dataclass(frozen=True, slots=True)
class RuntimeChoice:
    """One runtime that a preset wants, and what can be done about it here."""

    name: str
    title: str
    seats: tuple[str, ...]
    found: str | None
    suggested: str


def runtime_choices(preset: Preset, found: Mapping[str, str | None], catalog: Catalog) -> list[RuntimeChoice]:
    """Return the runtimes of the preset in its order. `found`: runtime → absolute path of its program here, or None."""
    wanted = list(dict.fromkeys(agent.runtime for agent in preset.roster.agents))
    here = [name for name in (*PREFERRED, *sorted(found)) if found.get(name) and name != "shell"]
    choices = []
    for name in wanted:
        seats = tuple(agent.name for agent in preset.roster.agents if agent.runtime == name)
        suggested = name if found.get(name) or not here else here[0]
        choices.append(RuntimeChoice(name, read_manifest(catalog, name).title, seats, found.get(name), suggested))
    return choices


def connector_fields(kind: str) -> tuple[str, ...]:
    """Return the names of the fields that a connector of this kind needs. Raises AnswerInvalid."""
    if kind not in CONNECTORS:
        near = nearest(kind, CONNECTORS, limit=1)
        why = f"the nearest is {near[0]}" if near else f"there are: {', '.join(CONNECTORS)}"
        raise AnswerInvalid(f"there is no connector {kind[:40]!r}", why=why)
    model = _block(kind)
    return tuple(model.model_fields) if model is not None else ()


def compose(
    preset: Preset, answers: Answers, catalog: Catalog, *, source: str, with_schema: bool = False
) -> RosterFile:
    """Return the roster that the answers make of the preset, read back from its own text.

    `source` names the file for messages; JSON where it ends in .json. Raises AnswerInvalid, NotFound (no such runtime),
    PresetFloorBroken.
    """
    data = preset.roster.as_written()
    agents: list[dict[str, Any]] = data["agents"]
    mapping = _Mapping(answers.runtimes, preset.roster.agents, catalog)
    for row, agent in zip(agents, preset.roster.agents, strict=True):
        runtime = mapping.runtime_of(agent)
        if runtime != agent.runtime:
            row["runtime"] = runtime
            row.pop("model_hint", None)  # it names a model in the other runtime's words
        if answers.unattended:
            row["unattended"] = True
    data["runtimes"] = _resets(agents, data.get("runtimes", {}), catalog)
    if not data["runtimes"]:
        del data["runtimes"]
    if answers.working_directory:
        data["defaults"] = {**data.get("defaults", {}), "working_directory": answers.working_directory}
    if answers.tenant:
        data["tenant"] = answers.tenant
    block = _connector(answers.connector)
    if block:
        agents_last = data.pop("agents")
        data |= {"connector": block, "agents": agents_last}
    roster = _checked(data, catalog)
    made = parse_roster(_text(roster, preset, source, with_schema=with_schema), source=source, catalog=catalog)
    if preset.id not in WITHOUT_FLOOR:
        problem = floor_problem(resolve_class(catalog, agent.class_) or agent.class_ for agent in made.roster.agents)
        if problem:
            raise PresetFloorBroken(f"this roster would not keep the floor of preset {preset.id}", why=problem)
    return made


def says_same(content: bytes, roster: Roster, *, source: str, catalog: Catalog) -> bool:
    """Return whether a file's content is this very roster, in whatever order, style and comments."""
    try:
        found = parse_roster(content, source=source, catalog=catalog).roster
    except InvalidInput:
        return False
    return dump_roster_json(found) == dump_roster_json(roster)


def next_steps(roster: Roster, found: Mapping[str, str | None], catalog: Catalog, *, path: str = "") -> list[str]:
    """Return what to run next, in order: installing, the token, applying. `path`: of the roster, if unusual."""
    steps = []
    for name in dict.fromkeys(agent.runtime for agent in roster.agents if agent.command is None):
        if not found.get(name):
            manifest = read_manifest(catalog, name)
            steps.append(manifest.install.command or f"install {manifest.title}")
    if roster.connector is not None and roster.connector.kind in TOKENS:
        steps.append(f"export {TOKENS[roster.connector.kind]}=…")
    given = f" --roster {path}" if path else ""
    return [*steps, "mosaic up", f"mosaic fleet apply{given}", "mosaic fleet ps"]


class _Mapping:
    """Which runtime a seat gets: by its name, else by its class, else by the preset's runtime, else by "*"."""

    def __init__(self, given: Mapping[str, str], agents: Sequence[Agent], catalog: Catalog) -> None:
        self._given = given
        known = {"*"}
        for agent in agents:
            known |= {agent.name, agent.class_, agent.runtime}
        for key, runtime in given.items():
            if key not in known:
                near = nearest(key, known, limit=1)
                why = f"the nearest is {near[0]}" if near else f"there are: {', '.join(sorted(known - {'*'}))}"
                raise AnswerInvalid(f"no runtime, agent or class of this preset is called {key[:40]!r}", why=why)
            if catalog.find("runtimes", runtime, ".yaml") is None:
                near = nearest(runtime, known_runtimes(catalog), limit=1) or known_runtimes(catalog)
                raise NotFound(f"there is no runtime {runtime[:40]!r}", why=f"there is: {', '.join(near)}")

    def runtime_of(self, agent: Agent) -> str:
        for key in (agent.name, agent.class_, agent.runtime, "*"):
            if key in self._given:
                return self._given[key]
        return agent.runtime


def _resets(agents: Sequence[Mapping[str, Any]], before: Mapping[str, Any], catalog: Catalog) -> dict[str, Any]:
    """Return the `runtimes` block for the runtimes in use: as it was, and each other one's own reset command."""
    used = dict.fromkeys(str(row["runtime"]) for row in agents)
    block = {name: before[name] for name in before if name in used}
    for name in used:
        command = read_manifest(catalog, name).reset_command
        if name not in block and before and command:
            block[name] = {"reset_command": command}
    return block


def _connector(given: Mapping[str, str]) -> dict[str, Any]:
    kind = given.get("kind", "tmux")
    fields = connector_fields(kind)
    if unknown := [key for key in given if key not in ("kind", *fields)]:
        near = nearest(unknown[0], fields, limit=1)
        why = f"the nearest is {near[0]}" if near else f"it has: {', '.join(fields) or 'none'}"
        raise AnswerInvalid(f"a connector of kind {kind} has no field {unknown[0][:40]!r}", why=why)
    missing = [key for key in fields if not given.get(key)]
    if missing:
        raise AnswerInvalid(
            f"a connector of kind {kind} needs {', '.join(missing)}",
            next_step=" ".join(f"--connector-field {key}=…" for key in missing),
        )
    return {"kind": kind, kind: {key: given[key] for key in fields}} if fields else {}


def _block(kind: str) -> type[BaseModel] | None:
    described = Connector.model_fields.get(kind)
    if described is None:
        return None
    members = getattr(described.annotation, "__args__", ())
    return next(one for one in members if isinstance(one, type) and issubclass(one, BaseModel))


def _checked(data: dict[str, Any], catalog: Catalog) -> Roster:
    """Return the roster of `data`, checked by the rules of every roster file. Raises AnswerInvalid."""
    try:
        return parse_roster(json.dumps(data), source="roster.json", catalog=catalog).roster
    except RosterInvalid as error:
        told = "; ".join(problem.without_file() for problem in error.problems[:3])
        raise AnswerInvalid(
            "these answers make no valid roster", why=told, next_step="mosaic fleet init --help"
        ) from error


def _text(roster: Roster, preset: Preset, source: str, *, with_schema: bool) -> str:
    if source.endswith(".json"):
        return json.dumps(roster.as_written(), ensure_ascii=False, indent=2) + "\n"
    head = (
        f"# Made by `mosaic fleet init` from the preset {preset.id}: {preset.summary}\n"
        "# It is yours to edit; what you change here is never overwritten without --force. Then: mosaic fleet apply\n"
    )
    return (SCHEMA_LINE if with_schema else "") + head + dump_roster(roster)
