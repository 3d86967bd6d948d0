"""What of a row is faint: a program's suggestion, not a draft."""

from __future__ import annotations

from mosaic_hostagent.terminal.styles import plain_rows


def test_codes_go_and_faint_text_is_blank_in_the_second_form() -> None:
    plain, bright = plain_rows(["\x1b[1m>\x1b[0m a \x1b[2mghost\x1b[22m b", "c"])
    assert plain == ["> a ghost b", "c"]
    assert bright == ["> a       b", "c"]


def test_a_style_goes_on_into_the_next_row_until_it_is_reset() -> None:
    assert plain_rows(["\x1b[2mone", "two\x1b[0m three"]) == (["one", "two three"], ["   ", "    three"])


def test_a_cursor_drawn_on_a_suggestion_belongs_to_it_and_one_after_a_draft_does_not() -> None:
    assert plain_rows(["> \x1b[7mP\x1b[0;2mress up\x1b[0m"])[1] == [">         "]
    assert plain_rows(["> dra\x1b[7mf\x1b[0mt", "\x1b[2mhint"])[1] == ["> draft", "    "]


def test_a_colour_whose_number_is_two_is_not_faint() -> None:
    assert plain_rows(["\x1b[38;5;2mgreen\x1b[48;2;1;2;2mbox\x1b[39m"]) == (["greenbox"], [])


def test_nothing_faint_needs_no_second_form() -> None:
    assert plain_rows(["plain", "\x1b[31mred\x1b[0m"]) == (["plain", "red"], [])
