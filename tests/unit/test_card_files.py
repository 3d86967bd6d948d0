"""Promises of the files that cards are made from."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mosaic_cli.backlog.card_files import MOST_CARDS, read_cards, refused
from mosaic_framework.document import FileUnreadable
from mosaic_framework.marked import DocumentInvalid
from mosaic_proto.v1 import backlog_pb2 as pb

TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=30)
ENTRY = st.fixed_dictionaries(
    {"title": TEXT},
    optional={
        "id": st.from_regex(r"[a-z][a-z0-9_.-]{0,20}", fullmatch=True),
        "body": TEXT,
        "priority": st.integers(-1_000_000, 1_000_000),
        "labels": st.lists(TEXT, max_size=3),
        "class": TEXT,
        "urgency": st.sampled_from(["low", "normal", "high", "critical"]),
        "dependsOn": st.lists(TEXT, max_size=3),
        "pull_request": TEXT,
        "gated": st.booleans(),
        "timeLimit": st.sampled_from(["90m", "4h", "1d"]),
        "estimate": st.fixed_dictionaries({}, optional={"cost": st.integers(0, 1000), "tokens": st.integers(0, 10**9)}),
    },
)


def drafts(content: str, source: str = "cards.yaml") -> list[pb.CardDraft]:
    return [placed.draft for placed in read_cards(content.encode(), source)]


def problems(content: str, source: str = "cards.yaml") -> list[str]:
    with pytest.raises(DocumentInvalid) as error:
        read_cards(content.encode(), source)
    return [str(problem) for problem in error.value.problems]


@given(st.lists(ENTRY, min_size=1, max_size=5))
def test_a_json_list_json_lines_and_a_list_under_cards_are_the_same(entries: list[dict[str, Any]]) -> None:
    lines = "\n".join(json.dumps(entry) for entry in entries)
    as_lines = drafts(lines + "\n", "cards.jsonl")
    assert as_lines == drafts(json.dumps(entries), "cards.json") == drafts(json.dumps({"cards": entries}), "cards.json")
    assert [draft.content.title for draft in as_lines] == [entry["title"] for entry in entries]


def test_every_field_of_a_card_can_be_written() -> None:
    (draft,) = drafts("""
- id: login-page
  title: Fix the login page
  body: |
    It forgets
    the user.
  mission: relaunch
  phase: two
  priority: 7
  urgency: high
  labels: [web, ui]
  acceptance: [the user stays]
  goals: [g1]
  requirements: [r1]
  class: code
  repository: shop
  branch: fix/login
  head: abc123
  pull_request: '12'
  evidence: [a log]
  gated: true
  estimate: {cost: 1.25, tokens: 1000, time: 2h, basis: the last one}
  attempt_limit: 3
  time_limit: 90m
  depends_on: [schema]
  idempotency_key: plan-1
""")
    assert draft.id == "login-page"
    assert draft.depends_on == ["schema"]
    assert draft.idempotency_key == "plan-1"
    content = draft.content
    unset = [field.name for field in pb.CardContent.DESCRIPTOR.fields if not _is_set(content, field.name)]
    assert unset == []
    assert content.body == "It forgets\nthe user.\n"
    assert content.estimate == pb.Spend(cost_micros=1_250_000, tokens=1000, seconds=7200, basis="the last one")
    assert content.time_limit.seconds == 5400


def _is_set(content: pb.CardContent, name: str) -> bool:
    return bool(getattr(content, name))


def test_every_problem_is_told_at_its_line_with_the_nearest_key() -> None:
    told = problems(
        "- title: one\n  prioritty: 3\n- body: no title\n- title: three\n  urgency: hihg\n  time_limit: soon\n"
    )
    assert (
        told[0].startswith("cards.yaml:2:3: [0].prioritty: unknown key (nearest: priority)")
        or "nearest: priority" in told[0]
    )
    assert any(":3:" in problem and "required" in problem for problem in told)
    assert any(":5:" in problem and "nearest: high" in problem for problem in told)
    assert any(":6:" in problem and "length of time" in problem for problem in told)


def test_a_broken_line_of_json_lines_is_told_by_its_number_and_the_others_are_still_checked() -> None:
    told = problems('{"title": "one"}\n{"title": \n{"titel": "three"}\n', "cards.jsonl")
    assert any("cards.jsonl:2:" in problem for problem in told)
    assert any("cards.jsonl:3:" in problem and "nearest: title" in problem for problem in told)


@pytest.mark.parametrize("content", ["", "just text", "title: one card, not a list", "cards: 3", "[1, 2]", "- [title]"])
def test_what_is_no_list_of_cards_is_refused(content: str) -> None:
    assert problems(content)


@given(st.binary(max_size=200))
def test_rubbish_never_raises_anything_but_a_told_error(content: bytes) -> None:
    with contextlib.suppress(DocumentInvalid, FileUnreadable):
        read_cards(content, "cards.yaml")


def test_more_cards_than_one_transaction_takes_are_refused_before_anything_is_sent() -> None:
    content = "\n".join('{"title": "x"}' for _ in range(MOST_CARDS + 1))
    with pytest.raises(FileUnreadable, match=str(MOST_CARDS + 1)):
        read_cards(content.encode(), "cards.jsonl")


def test_what_the_register_refuses_is_told_at_the_card_in_the_file_with_the_circle() -> None:
    placed = read_cards(b"- title: one\n- title: two\n", "cards.yaml")
    found = pb.CardProblem(index=1, id="b", code="cycle", what="this closes a circle", path=["b", "a", "b"])
    error = refused(placed, [found], "cards.yaml")
    assert "line 2" in error.why
    assert "b → a → b" in error.why
