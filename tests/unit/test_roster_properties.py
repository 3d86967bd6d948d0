"""Properties of reading a roster: the valid round-trips, the invalid names a line, and nothing is a traceback."""

from __future__ import annotations

import json
import random
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mosaic_framework.catalog import Catalog
from mosaic_framework.marked import DEPTH_LIMIT
from mosaic_framework.roster_edit import edit_roster, same
from mosaic_framework.roster_file import RosterInvalid, dump_roster, dump_roster_json, parse_roster
from mosaic_framework.roster_model import Roster

from tests.support.rosters import rosters

CATALOG = Catalog(Catalog.open().shipped)
relaxed = settings(deadline=None, max_examples=120, suppress_health_check=[HealthCheck.too_slow])

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


MARK = "# a person wrote this"


def commented(text: str) -> str:
    """Put a comment at the top, before each agent, at the end, and beside the version."""
    lines = text.replace("version: 1\n", f"version: 1  {MARK}\n", 1).split("\n")
    start = lines.index("agents:")
    rows = [f"  {MARK}\n{line}" if line.startswith("  - name: ") else line for line in lines[start:]]
    return "\n".join([MARK, *lines[:start], *rows, MARK, ""])


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
@given(rosters, rosters)
def test_any_edit_says_what_is_wanted_and_keeps_every_comment_between_agents(
    old: dict[str, Any], new: dict[str, Any]
) -> None:
    before, wanted = read(json.dumps(old), "roster.json"), read(json.dumps(new), "roster.json")
    assert before is not None
    assert wanted is not None
    text = commented(dump_roster(before))
    changed = edit_roster(text, wanted, source="roster.yaml", catalog=CATALOG)
    result = read(changed, "roster.yaml")
    assert result is not None
    assert same(result, wanted)
    assert changed.count(MARK) == text.count(MARK)


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
