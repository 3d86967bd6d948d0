"""Selectors: everything that can be written means one thing, and nothing unknown matches."""

from __future__ import annotations

import contextlib
from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mosaic_framework.selector import Of, Selector, SelectorError, agent_facts, card_facts, parse

VALUES = st.text(alphabet="abcAB01_.-=", min_size=1, max_size=6)
PATTERNS = st.text(alphabet="abAB01*?[]!-=._", min_size=1, max_size=6)
KEYS = st.sampled_from(["class", "host", "agent", "runtime", "label.team", "label.of/what"])
PAIRS = st.lists(st.tuples(KEYS, PATTERNS), min_size=1, max_size=6)
FACTS = st.dictionaries(KEYS, VALUES.map(lambda value: (value,)), max_size=6)


def written(pairs: list[tuple[str, str]]) -> str:
    return ",".join(f"{key}={pattern}" for key, pattern in pairs)


@given(PAIRS)
def test_what_is_formatted_is_read_as_the_same(pairs: list[tuple[str, str]]) -> None:
    selector = parse(written(pairs))
    assert parse(str(selector)) == selector


@given(PAIRS)
def test_the_order_of_keys_changes_nothing(pairs: list[tuple[str, str]]) -> None:
    by_key = sorted(pairs, key=lambda pair: pair[0])  # stable: the alternatives of a key keep their order
    assert str(parse(written(by_key))) == str(parse(written(pairs)))


@given(PAIRS, FACTS)
def test_it_matches_when_every_key_has_an_alternative_that_fits(
    pairs: list[tuple[str, str]], facts: dict[str, tuple[str, ...]]
) -> None:
    expected = all(
        any(fnmatchcase(facts[key][0], pattern) for other, pattern in pairs if other == key) if key in facts else False
        for key, _ in pairs
    )
    assert parse(written(pairs)).matches(facts) == expected


@given(FACTS)
def test_a_star_is_everything(facts: dict[str, tuple[str, ...]]) -> None:
    assert parse(" * ") == Selector()
    assert str(Selector()) == "*"
    assert parse("*").matches(facts)


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused_with_a_reason(text: str) -> None:
    with contextlib.suppress(SelectorError):
        selector = parse(text)
        assert parse(str(selector)) == selector


def test_a_key_that_is_misspelt_is_told_the_nearest() -> None:
    with pytest.raises(SelectorError) as refused:
        parse("clas=builder")
    assert refused.value.details == {"key": "clas", "nearest": "class"}
    with pytest.raises(SelectorError, match="no key 'host'"):
        parse("host=web", Of.CARDS)


@pytest.mark.parametrize(
    "text", ["", " ", "builder", "class=", "=x", "class=a,,host=b", "*,class=a", "label.=x", "x" * 1001]
)
def test_what_means_nothing_is_refused(text: str) -> None:
    with pytest.raises(SelectorError):
        parse(text)


def test_an_agent_without_the_label_is_not_matched_by_any_pattern_of_it() -> None:
    one = agent_facts(host="web-1", agent="ada", agent_class="builder", labels={"team": "search"})
    assert parse("host=web-*,label.team=s*").matches(one)
    assert not parse("label.site=*").matches(one)
    assert not parse("runtime=*").matches(one)


def test_a_card_is_matched_by_any_of_its_labels_of_a_key() -> None:
    card = card_facts(card_class="builder", mission="m1", labels=["team=search", "team=ads", "urgent"])
    assert parse("label.team=ads,label.urgent=*", Of.CARDS).matches(card)
    assert parse("mission=m?,class=builder", Of.CARDS).matches(card)
    assert not parse("label.team=infra", Of.CARDS).matches(card)
