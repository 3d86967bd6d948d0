"""Pure parts of seeing and driving a terminal: rows, scrollback, keys, the lease, followed lines, drawing."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mosaic_cli.line_follower import LineFollower, after
from mosaic_cli.screen_drawing import Size, changes, clip, draw, plain
from mosaic_cli.text import width
from mosaic_framework.screen_feed import ScreenFeed, Viewer
from mosaic_hostagent.terminal.driving import DRAFT_SECONDS, LEASE_SECONDS, PAUSE_SECONDS, Driving
from mosaic_hostagent.terminal.history import Seen, scrolled_between
from mosaic_hostagent.terminal.keyboard import KeyReader, Literal, Named, Paste
from mosaic_hostagent.terminal.sgr import complete_rows
from mosaic_hostagent.terminal.sgr import plain as without_colours
from mosaic_proto.v1 import terminal_pb2 as pb

ALLOWED = re.compile(r"(?:\x1b\[[0-9:;]*m|[^\x00-\x1f\x7f-\x9f])*")


# -- rows ----------------------------------------------------------------------------------------------------------


def test_a_row_begins_with_the_colours_that_the_row_before_left_on() -> None:
    rows = complete_rows(["\x1b[1m\x1b[38;5;200mpink", "carried\x1b[0m tail", "plain"])
    assert rows[1].startswith("\x1b[1;38;5;200mcarried")
    assert rows[2] == "plain"


def test_colours_and_attributes_go_off_one_by_one() -> None:
    rows = complete_rows(["\x1b[1;31;44mx\x1b[22m\x1b[39m", "blue ground only", "\x1b[49m", "none"])
    assert rows[1].startswith("\x1b[44mblue")
    assert rows[3] == "none"


def test_line_drawing_becomes_unicode_and_links_and_titles_go() -> None:
    row = "\x0elqk\x0fq \x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\\x1b]0;title\x07"
    assert complete_rows([row]) == ["┌─┐q link"]


@given(st.lists(st.text(alphabet="ab;:[]m0148 \x1b\x0e\x0f\x07\x9b\\", max_size=40), max_size=4))
def test_nothing_but_characters_and_colours_comes_out_whatever_goes_in(rows: list[str]) -> None:
    done = complete_rows(rows)
    assert len(done) == len(rows)
    assert all(ALLOWED.fullmatch(row) for row in done)
    assert not any("\x1b" in without_colours(row) for row in done)


# -- scrollback ----------------------------------------------------------------------------------------------------


@given(st.integers(0, 60), st.integers(0, 60), st.integers(1, 30))
def test_every_line_that_left_is_told_or_counted(had: int, more: int, kept: int) -> None:
    """A scrollback of numbered lines, trimmed by a tenth when full, as tmux does; `kept` of them are read."""
    limit = 40
    history = [f"l{number}" for number in range(had)]
    while len(history) >= limit:
        del history[: limit // 10]
    before = Seen(len(history), limit, f"l{had}")
    trimmed = False
    for number in range(had, had + more):
        if len(history) >= limit:
            trimmed = bool(history.__delitem__(slice(0, limit // 10))) or True
        history.append(f"l{number}")
    lines, skipped = scrolled_between(before, Seen(len(history), limit, f"l{had + more}", history[-kept:]))
    expected = [f"l{number}" for number in range(had, had + more)]
    assert lines == expected[len(expected) - len(lines) :]
    if len(lines) < more:
        assert skipped or trimmed
    if not trimmed:
        assert len(lines) + skipped == more


def test_an_emptied_scrollback_is_told_from_its_beginning_and_that_something_may_be_missing() -> None:
    assert scrolled_between(Seen(500, 20_000, "x"), Seen(2, 20_000, "y", ["a", "b"])) == (["a", "b"], 1)


# -- keys ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "name"),
    [
        (b"\x1b[A", "Up"),
        (b"\x1bOB", "Down"),
        (b"\x1b[1;5C", "C-Right"),
        (b"\x1b[1;2A", "S-Up"),
        (b"\x1b[3~", "DC"),
        (b"\x1b[5;3~", "M-PPage"),
        (b"\x1bOP", "F1"),
        (b"\x1b[24~", "F12"),
        (b"\x1b[Z", "BTab"),
        (b"\x1b[H", "Home"),
    ],
)
def test_cursor_and_function_keys_go_by_name_amid_text(keys: bytes, name: str) -> None:
    assert KeyReader().feed(b"a" + keys + b"\r") == [Literal(b"a"), Named(name), Literal(b"\r")]


@given(st.binary(max_size=300).filter(lambda data: b"\x1b" not in data))
def test_bytes_without_escapes_go_through_as_they_are(data: bytes) -> None:
    assert KeyReader().feed(data) == ([Literal(data)] if data else [])


@given(st.binary(max_size=300).filter(lambda data: b"\x1b" not in data), st.lists(st.integers(0, 330), max_size=6))
def test_a_paste_is_one_wherever_the_network_cuts_it(text: bytes, cuts: list[int]) -> None:
    whole = b"a\x1b[200~" + text + b"\x1b[201~b"
    reader, strokes = KeyReader(), []
    # The mark that begins it comes in one piece, as a terminal writes it.
    bounds = [0, *sorted(cut for cut in cuts if 7 <= cut <= len(whole)), len(whole)]
    for first, last in itertools.pairwise(bounds):
        strokes += reader.feed(whole[first:last])
    pasted = b"".join(stroke.content for stroke in strokes if isinstance(stroke, Paste))
    assert pasted == text
    assert (strokes[0], strokes[-1]) == (Literal(b"a"), Literal(b"b"))


def test_a_long_paste_goes_in_pieces_and_an_open_one_holds_a_bounded_part_of_it() -> None:
    reader = KeyReader()
    strokes = reader.feed(b"\x1b[200~")
    for _ in range(100):
        strokes += reader.feed(b"x" * 4096)
    strokes += reader.feed(b"\x1b[201~")
    assert sum(len(stroke.content) for stroke in strokes if isinstance(stroke, Paste)) == 409_600
    assert max(len(stroke.content) for stroke in strokes if isinstance(stroke, Paste)) <= 64 * 1024 + 4096


# -- the lease -----------------------------------------------------------------------------------------------------


def test_a_lease_is_one_persons_until_it_is_released_taken_over_or_not_renewed() -> None:
    driving = Driving()
    anna, former = driving.ask("anna", 0, take=False)
    assert anna is not None
    assert former is None
    assert driving.ask("ben", 1, take=False) == (None, anna)
    assert driving.renew(anna, LEASE_SECONDS - 1)
    ben, former = driving.ask("ben", LEASE_SECONDS + 1, take=True)
    assert (former, anna.ended, anna.taken_by) == (anna, True, "ben")
    assert not driving.renew(anna, LEASE_SECONDS + 1)
    assert ben is not None
    driving.release(anna)
    assert driving.lease(LEASE_SECONDS + 2) is ben
    assert driving.lease(3 * LEASE_SECONDS) is None
    assert ben.ended
    assert driving.ask("anna", 3 * LEASE_SECONDS, take=False)[0] is not None


def test_a_lease_alone_holds_no_message_back_but_typing_and_a_draft_do_for_a_while() -> None:
    driving = Driving()
    driving.ask("anna", 0, take=False)
    assert driving.holds_back(1) == ""
    driving.pressed(b"ls", 10)
    assert "typing" in driving.holds_back(10 + PAUSE_SECONDS - 0.1)
    assert "not sent it off" in driving.holds_back(10 + PAUSE_SECONDS + 0.1)
    assert driving.holds_back(10 + DRAFT_SECONDS) == ""
    driving.pressed(b" -l\r", 100)
    assert driving.holds_back(100 + PAUSE_SECONDS) == ""


# -- followed lines ------------------------------------------------------------------------------------------------


class Line:
    """A terminal of a line program, 4 rows high: enough of one to feed a follower."""

    def __init__(self) -> None:
        self.rows, self.y, self.feed, self.viewer = [""], 0, ScreenFeed(), Viewer(scrolled=True)

    def write(self, *lines: str) -> None:
        """Finish the line at the cursor with each of these."""
        left: list[str] = []
        for line in lines:
            self.rows[self.y] = line
            self.rows.append("")
            if len(self.rows) > 4:
                left.append(self.rows.pop(0))
            self.y = len(self.rows) - 1
        rows = self.rows + [""] * (4 - len(self.rows))
        self.feed.show(rows, pb.TerminalStatus(height=4, cursor_y=self.y, run_id="r"), scrolled=left)

    def frame(self) -> pb.TerminalFrame:
        frame = self.feed.frame_for(self.viewer)
        assert frame is not None
        return frame


@given(st.lists(st.integers(1, 9), min_size=1, max_size=8))
def test_each_finished_line_is_told_once_and_in_order(bursts: list[int]) -> None:
    terminal, follower, told, count = Line(), LineFollower(), [], 0
    terminal.write()
    told += follower.take(terminal.frame())
    for burst in bursts:
        terminal.write(*(f"line {number}" for number in range(count, count + burst)))
        count += burst
        told += follower.take(terminal.frame())
    assert told == [f"line {number}" for number in range(count)]


def test_a_screen_that_is_cleared_is_gone_on_with_from_its_top() -> None:
    terminal, follower = Line(), LineFollower()
    terminal.write("a", "b")
    assert follower.take(terminal.frame()) == ["a", "b"]
    terminal.rows, terminal.y = [""], 0
    terminal.write()
    assert follower.take(terminal.frame()) == []
    terminal.write("c")
    assert follower.take(terminal.frame()) == ["c"]


@given(st.lists(st.sampled_from("abc"), min_size=4, unique=False), st.integers(0, 5))
def test_after_a_loss_what_was_told_is_not_told_again(lines: list[str], more: int) -> None:
    numbered = [f"{line}{number}" for number, line in enumerate(lines)]
    fresh = [f"new{number}" for number in range(more)]
    assert after(numbered, [*numbered[-3:], *fresh]) == fresh


# -- drawing -------------------------------------------------------------------------------------------------------


@given(st.text(alphabet="ab日é\x1b[31m\x1b[0m\n\t", max_size=40), st.integers(0, 10), st.integers(1, 20))
def test_a_clipped_row_fits_and_moves_no_cursor(row: str, first: int, columns: int) -> None:
    shown = clip(row, first, columns)
    assert ALLOWED.fullmatch(shown)
    assert width(plain(shown)) <= columns


def test_a_larger_picture_is_shown_where_its_cursor_is() -> None:
    rows = [f"row {number}" for number in range(50)]
    lines, cursor = draw(rows, pb.TerminalStatus(cursor_x=3, cursor_y=40), Size(20, 11), "bar")
    assert len(lines) == 11
    assert lines[cursor[1] if cursor else 0] == "row 40"
    assert "bar" in lines[-1]


def test_only_lines_that_changed_are_drawn_again_and_all_after_a_resize() -> None:
    assert changes(["a", "b"], ["a", "c"]).count("\x1b[2;1H") == 1
    assert "\x1b[1;1H" not in changes(["a", "b"], ["a", "c"])
    assert changes(["a"], ["a", "b"]).startswith("\x1b[2J")
