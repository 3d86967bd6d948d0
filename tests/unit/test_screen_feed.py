"""A feed brings every viewer to what is true now, however it was read, within a bound."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from mosaic_framework.screen_feed import RING_LINES, ScreenFeed, Viewer
from mosaic_proto.v1 import terminal_pb2 as pb

ROWS = st.lists(st.text(alphabet="ab \x1b[1m", max_size=6), max_size=5)
LINES = st.lists(st.sampled_from(["x", "y", "zz"]), max_size=4)


def status(rows: list[str], **more: object) -> pb.TerminalStatus:
    return pb.TerminalStatus(height=len(rows), width=80, **more)  # type: ignore[arg-type]


@given(st.lists(st.tuples(ROWS, LINES, st.integers(0, 2), st.booleans(), st.booleans()), max_size=12))
def test_whoever_applies_the_frames_they_got_has_the_picture_and_knows_of_every_line(
    steps: list[tuple[list[str], list[str], int, bool, bool]],
) -> None:
    """Two viewers read whenever they like; `skipped` lines are unknown to the feed itself."""
    feed, everything = ScreenFeed(), list[str | None]()
    viewers = [(Viewer(scrolled=True), ScreenFeed(), list[str | None]()) for _ in range(2)]
    for rows, lines, skipped, *reads in steps:
        feed.show(rows, status(rows), scrolled=lines, skipped=skipped)
        everything += [None] * skipped + lines
        for (viewer, copy, seen), reading in zip(viewers, reads, strict=True):
            before = viewer.version
            if not reading or (frame := feed.frame_for(viewer)) is None:
                continue
            copy.take(frame)
            if before < 0:
                seen[:] = everything
            else:
                seen += [None] * frame.skipped + list(frame.scrolled)
            assert (copy.rows, copy.status) == (feed.rows, feed.status)
            assert len(seen) == len(everything) == feed.status.top
            assert all(mine in (None, line) for mine, line in zip(seen, everything, strict=True))


def test_nothing_new_is_no_frame_and_an_equal_picture_is_nothing_new() -> None:
    feed, viewer = ScreenFeed(), Viewer()
    assert feed.frame_for(viewer) is None
    assert feed.show(["a"], status(["a"]))
    assert feed.frame_for(viewer) is not None
    assert not feed.show(["a"], status(["a"]))
    assert feed.frame_for(viewer) is None


def test_only_rows_that_changed_are_sent() -> None:
    feed, viewer = ScreenFeed(), Viewer()
    feed.show(["a", "b", "c"], status(["", "", ""]))
    feed.frame_for(viewer)
    feed.show(["a", "B", "c"], status(["", "", ""]))
    frame = feed.frame_for(viewer)
    assert frame is not None
    assert [(row.index, row.text) for row in frame.rows] == [(1, "B")]
    assert not frame.whole


def test_a_viewer_that_never_reads_costs_a_bounded_ring_and_is_told_how_much_it_missed() -> None:
    feed, viewer = ScreenFeed(), Viewer(scrolled=True)
    feed.show(["$"], status(["$"]))
    feed.frame_for(viewer)
    for number in range(10_000):
        feed.show(["$"], status(["$"]), scrolled=[f"line {number}"])
    frame = feed.frame_for(viewer)
    assert frame is not None
    assert len(frame.scrolled) == RING_LINES
    assert frame.skipped == 10_000 - RING_LINES
    assert frame.scrolled[-1] == "line 9999"


def test_a_viewer_may_begin_with_lines_from_before_the_feed() -> None:
    feed, viewer = ScreenFeed(), Viewer(scrolled=True, lines=2)
    feed.recall(["a", "b", "c"])
    feed.show(["$"], status(["$"]))
    frame = feed.frame_for(viewer)
    assert frame is not None
    assert (list(frame.scrolled), frame.skipped) == (["b", "c"], 0)


def test_a_hostile_frame_makes_no_picture_larger_than_a_terminal() -> None:
    feed = ScreenFeed()
    frame = pb.TerminalFrame(whole=True, status=pb.TerminalStatus(height=2_000_000_000))
    frame.rows.add(index=-1, text="x")
    frame.rows.add(index=1_999_999_999, text="x")
    feed.take(frame)
    assert len(feed.rows) == 1_000
    assert not any(feed.rows)
