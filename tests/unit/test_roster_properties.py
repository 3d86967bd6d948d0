"""Properties of reading a roster: the valid round-trips, the invalid names a line, and nothing is a traceback."""

from __future__ import annotations

import json
import random
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mosaic_framework.catalog import Catalog
from mosaic_framework.fields import unprintable
from mosaic_framework.marked import DEPTH_LIMIT
from mosaic_framework.roster_checks import session_name
from mosaic_framework.roster_file import RosterInvalid, dump_roster, dump_roster_json, parse_roster
from mosaic_framework.roster_model import Roster

CATALOG = Catalog(Catalog.open().shipped)
RUNTIMES = ["claude", "codex", "opencode", "pi", "shell"]
relaxed = settings(deadline=None, max_examples=120, suppress_health_check=[HealthCheck.too_slow])

names = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,12}", fullmatch=True).filter(lambda name: name != "default")
printable = st.characters(codec="utf-8", exclude_categories=["Cc", "Zl", "Zp"]).filter(
    lambda character: not unprintable(character)
)
# What YAML would take for something else is as likely here as what it would not.
tricky = st.sampled_from(
    ["yes", "null", "~", "1", "1.5", "2001-01-01", "- a", "a: b", "# no", "'", '"', "\\", "{{x}}", "é😀", " a "]
)
lines = tricky | st.text(printable, min_size=1, max_size=20)
texts = lines | st.lists(lines | st.just(""), min_size=1, max_size=4).map(lambda parts: "\n".join(parts) or "x")
arguments = texts | st.just("")
words = lines.filter(lambda line: not line.startswith("-"))
folders = lines.map(lambda line: f"~/{line}")


def some(
    required: dict[str, st.SearchStrategy[Any]], optional: dict[str, st.SearchStrategy[Any]]
) -> st.SearchStrategy[Any]:
    return st.fixed_dictionaries(required, optional=optional)


agents = some(
    {"name": names, "runtime": st.sampled_from(RUNTIMES)},
    {
        "class": names,
        "alias": lines,
        "host": names,
        "socket": names,
        "working_directory": folders,
        "model_hint": words,
        "account": words,
        "persistent_persona": st.booleans() | texts,
        "reset_between_tasks": st.booleans(),
        "lifecycle": st.sampled_from(["always", "on-demand"]),
        "reports_to": names,
        "kickstart_template": texts,
        "unattended": st.booleans(),
        "args": st.lists(arguments, max_size=3),
        "command": st.lists(texts, min_size=1, max_size=3),
        "channels": st.lists(words, max_size=2),
        "env": st.dictionaries(
            st.from_regex(r"[A-Z_]{1,8}", fullmatch=True).map(lambda key: f"X{key}"), arguments, max_size=3
        ),
    },
)


def apart(rows: list[dict[str, Any]]) -> bool:
    sessions = [session_name(row["name"]) for row in rows]
    return len(set(sessions)) == len(sessions)


rosters = some(
    {
        "version": st.just(1),
        "transport": st.just("tmux"),
        "agents": st.lists(agents, min_size=1, max_size=4).filter(apart),
    },
    {
        "tenant": names,
        "profile": names,
        "floor": st.lists(names, max_size=3),
        "tmux": some({"holder_session": names.map(lambda name: f"{name}-holder")}, {"socket_name": names}),
        "defaults": some({}, {"working_directory": folders}),
        "runtimes": st.dictionaries(st.sampled_from(RUNTIMES), some({}, {"reset_command": lines}), max_size=2),
        "connector": st.sampled_from(
            [
                {"kind": "tmux"},
                {"kind": "discord", "discord": {"channel_id": "12"}},
                {"kind": "slack", "slack": {"channel_id": "C1"}},
            ]
        ),
    },
).filter(lambda data: "tmux" in data or all(session_name(row["name"]) != "_holder" for row in data["agents"]))
rubbish: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def read(content: str | bytes, source: str) -> Roster | None:
    """Return the roster, or None when it is refused as it should be. Anything else is a failure."""
    try:
        return parse_roster(content, source=source, catalog=CATALOG).roster
    except RosterInvalid as error:
        check_refusal(error, content, source)
        return None


def check_refusal(error: RosterInvalid, content: str | bytes, source: str) -> None:
    text = content if isinstance(content, str) else content.decode("latin-1")
    height = len(text.splitlines()) + 1
    assert error.problems
    assert len(error.why) < 2_000
    for problem in error.problems:
        assert problem.file == source
        assert 1 <= problem.line <= height
        assert problem.column >= 1
        assert problem.message
        assert str(problem).isprintable()


def nodes(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [path, *(found for key, value in inner for found in nodes(value, (*path, key)))]


def mutated(data: Any, change: random.Random, value: Any) -> Any:
    """Replace, remove, rename or double one node of a roster that is valid."""
    copy = json.loads(json.dumps(data))
    path = change.choice(nodes(copy))
    if not path:
        return value
    parent = copy
    for key in path[:-1]:
        parent = parent[key]
    last = path[-1]
    kind = change.choice(["replace", "remove", "rename", "double"])
    if kind == "replace":
        parent[last] = value
    elif kind == "remove":
        del parent[last]
    elif kind == "rename" and isinstance(parent, dict):
        parent[f"{last}x"] = parent.pop(last)
    elif isinstance(parent, list):
        parent.append(parent[last])
    return copy


@relaxed
@given(rosters)
def test_any_roster_that_validates_round_trips(data: dict[str, Any]) -> None:
    roster = read(json.dumps(data), "roster.json")
    assert roster is not None, "the strategy makes valid rosters"
    assert read(dump_roster(roster), "roster.yaml") == roster
    assert read(dump_roster_json(roster), "roster.json") == roster
    assert read(json.dumps(data, ensure_ascii=False), "roster.yaml") == roster


@relaxed
@given(rosters, st.randoms(use_true_random=False), rubbish)
def test_any_mutation_of_a_roster_validates_or_names_a_line(
    data: dict[str, Any], change: random.Random, value: Any
) -> None:
    text = json.dumps(mutated(data, change, value), indent=1)
    roster = read(text, "roster.json")
    if roster is not None:
        assert read(dump_roster(roster), "roster.yaml") == roster


@relaxed
@given(rosters, st.data())
def test_any_change_to_the_text_of_a_roster_validates_or_names_a_line(
    data: dict[str, Any], draw: st.DataObject
) -> None:
    roster = read(json.dumps(data), "roster.json")
    assert roster is not None
    text = dump_roster(roster)
    start = draw.draw(st.integers(0, len(text)))
    end = draw.draw(st.integers(start, min(len(text), start + 12)))
    piece = draw.draw(
        st.text(max_size=6)
        | st.sampled_from(["\t", "\n", ": ", "- ", "&a ", "*a", "!x ", "{", "[", "'", '"', "|\n", "? ", "---\n", "%"])
    )
    read(text[:start] + piece + text[end:], "roster.yaml")


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=300) | st.text(max_size=300), st.sampled_from(["roster.yaml", "roster.json"]))
def test_no_bytes_and_no_text_give_a_traceback(content: bytes | str, source: str) -> None:
    read(content, source)


@settings(deadline=None, max_examples=300)
@given(st.text(alphabet=" \n\t:-?,[]{}#&*!|>'\"%@`\\aé1~.<=\ufeff\x85\u2028\U0001f600", max_size=60))
def test_no_arrangement_of_yamls_own_signs_gives_a_traceback(text: str) -> None:
    read(text, "roster.yaml")
    read(f"version: 1\ntransport: tmux\nagents:\n  - {text}", "roster.yaml")


@settings(deadline=None, max_examples=50)
@given(rubbish, st.integers(1, DEPTH_LIMIT * 3))
def test_no_depth_gives_a_traceback(value: Any, depth: int) -> None:
    text = json.dumps(value)
    for source in ("roster.yaml", "roster.json"):
        read("[" * depth + text + "]" * depth, source)
        read('{"a":' * depth + text + "}" * depth, source)
