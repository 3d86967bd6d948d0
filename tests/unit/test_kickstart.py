"""Kickstart templates: known placeholders are filled in, unknown ones are found, and all else is text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mosaic_framework.kickstart import PLACEHOLDERS, render, unknown_placeholders

VALUES = {"name": "coder0", "class": "code", "mission": "ship it", "card": "MF-1"}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("You are {name}, of class {class}.", "You are coder0, of class code."),
        ("{mission} / {card}", "ship it / MF-1"),
        ("{{name}} is {name}", "{name} is coder0"),
        ('{"a": {"b": {}}} ${{HOME}} { name }', '{"a": {"b": {}}} ${HOME} { name }'),
        ("", ""),
    ],
)
def test_placeholders_are_filled_in(template: str, text: str) -> None:
    assert unknown_placeholders(template) == []
    assert render(template, VALUES) == text


def test_what_there_is_none_of_is_called_none() -> None:
    assert render("{card}", {"name": "a"}) == "none"


def test_a_value_is_not_read_as_a_template() -> None:
    assert render("{mission}", {"mission": "{name} {{card}}", "name": "x"}) == "{name} {{card}}"


def test_unknown_placeholders_are_found_with_their_line() -> None:
    assert unknown_placeholders("{name}\n{nme} and {Card}\n{{free}}") == [("nme", 1), ("Card", 1)]


@given(st.text(alphabet="{}acdnmeors$ \n", max_size=40))
def test_a_template_without_unknown_placeholders_renders_and_leaves_no_known_one(template: str) -> None:
    if unknown_placeholders(template):
        return
    escaped = any(f"{{{{{name}}}}}" in template for name in PLACEHOLDERS)
    text = render(template, dict.fromkeys(PLACEHOLDERS, "-"))
    assert escaped or not any(f"{{{name}}}" in text for name in PLACEHOLDERS)
