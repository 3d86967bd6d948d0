"""Documents with positions: every key and value at its place, in YAML and in JSON alike."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mosaic_framework.marked import Node, Position, Problems, plain, shorten, walk
from mosaic_framework.marked_json import read_json
from mosaic_framework.marked_yaml import read_yaml, resolve_plain

Reader = Callable[[str, Problems], Node | None]


def tree(text: str, reader: Reader = read_yaml) -> Node:
    problems = Problems("file")
    node = reader(text, problems)
    assert node is not None, problems.sorted()
    assert not problems
    return node


def first_problem(text: str, reader: Reader) -> tuple[int, int, str]:
    problems = Problems("file")
    reader(text, problems)
    first = problems.sorted()[0]
    return first.line, first.column, first.message


@pytest.mark.parametrize("reader", [read_yaml, read_json])
def test_every_key_knows_its_line_and_column(reader: Reader) -> None:
    node = tree('{"a": 1,\n "b": [{"c": 2},\n  {"c": 3}]}', reader)
    assert [(path, entry.at) for path, entry in walk(node)] == [
        ("a", Position(1, 2)),
        ("b", Position(2, 2)),
        ("b[0].c", Position(2, 9)),
        ("b[1].c", Position(3, 4)),
    ]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("~", None),
        ("null", None),
        ("true", True),
        ("False", False),
        ("yes", "yes"),
        ("on", "on"),
        ("12", 12),
        ("-0x1f", "-0x1f"),
        ("0x1f", 31),
        ("0o17", 15),
        ("017", 17),
        ("1.5e3", 1500.0),
        (".5", 0.5),
        (".", "."),
        ("2001-01-01", "2001-01-01"),
        ("1_000", "1_000"),
        ("12:30", "12:30"),
        ("1.2.3", "1.2.3"),
    ],
)
def test_an_unquoted_word_is_what_yaml_1_2_says(text: str, value: object) -> None:
    found = resolve_plain(text)
    assert (found, type(found)) == (value, type(value))


def test_a_quoted_word_is_always_text() -> None:
    assert plain(tree("[ 'true', \"1\", '' ]")) == ["true", "1", ""]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('{"a": 1,}', (1, 9, "a key in double quotes is missing here")),
        ('{"a" 1}', (1, 6, "':' is missing here")),
        ("[1\n 2]", (2, 2, "',' or ']' is missing here")),
        ("[1,\n]", (2, 1, "a value is missing here")),
        ("[1] 2", (1, 5, "there is more after the end of the document")),
        ('["a\nb"]', (1, 4, "this is not JSON: invalid control character at")),
        ("nul", (1, 1, "a value is missing here")),
        ('{"a": 1, "a": 2}', (1, 10, "the key stands twice; first in line 1")),
    ],
)
def test_a_fault_in_json_is_told_where_it_is(text: str, place: tuple[int, int, str]) -> None:
    assert first_problem(text, read_json) == place


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        ("a:\n\tb: 1", 2, "spaces"),
        ("a: 1\nb: c: d", 2, "quotes"),
        ("a: 1\na: 2", 2, "first in line 1"),
        ("a: 1\n---\nb: 1", 2, "second document"),
        ("a: *x", 1, "alias"),
        ("a: 1\nb: \x07", 2, "U+0007"),
        ("a: !x 1", 1, "tags"),
    ],
)
def test_a_fault_in_yaml_is_told_where_it_is(text: str, line: int, told: str) -> None:
    found, _, message = first_problem(text, read_yaml)
    assert found == line
    assert told in message


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
        max_leaves=12,
    )
)
def test_what_python_writes_as_json_is_read_back_equal(value: Any) -> None:
    assert plain(tree(json.dumps(value), read_json)) == value
    assert plain(tree(json.dumps(value, indent="\t", ensure_ascii=False), read_json)) == value


def test_a_message_shows_nothing_that_a_terminal_would_obey() -> None:
    assert shorten("a\x1b[2Jb\n") == "a�[2Jb�"
    assert shorten("x" * 300) == "x" * 60 + "… (300 characters)"
