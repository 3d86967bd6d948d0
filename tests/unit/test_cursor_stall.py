"""How long watchers are held back, from what snapshots say."""

from __future__ import annotations

from mosaic_controlplane.mesh.stall import CursorStall


def test_it_is_the_time_that_the_oldest_open_transaction_has_been_seen() -> None:
    stall = CursorStall()
    assert stall.observe(xmin=10, xmax=12, now=100.0) == 0.0
    assert stall.observe(xmin=10, xmax=15, now=103.0) == 3.0
    assert stall.observe(xmin=10, xmax=40, now=109.0) == 9.0
    assert stall.seconds == 9.0


def test_it_ends_when_the_cursor_moves_and_begins_anew() -> None:
    stall = CursorStall()
    stall.observe(xmin=10, xmax=12, now=100.0)
    assert stall.observe(xmin=11, xmax=12, now=103.0) == 0.0
    assert stall.observe(xmin=11, xmax=12, now=104.0) == 1.0


def test_a_register_in_which_nothing_happens_does_not_stall() -> None:
    stall = CursorStall()
    for now in (100.0, 200.0):
        assert stall.observe(xmin=12, xmax=12, now=now) == 0.0
    # The age counts from when the transaction was open, not from when the last one ended.
    assert stall.observe(xmin=12, xmax=13, now=201.0) == 1.0
    assert stall.observe(xmin=12, xmax=13, now=202.0) == 2.0
