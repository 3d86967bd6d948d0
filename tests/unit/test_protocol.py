"""Which protocol two ends of a link agree on, and which one is told to update when they cannot."""

from __future__ import annotations

import pytest
from mosaic_framework.protocol import OLDEST, VERSION, ProtocolMismatch, agree


@pytest.mark.parametrize(
    ("theirs", "their_oldest", "spoken"),
    [
        (VERSION, OLDEST, VERSION),
        (VERSION - 1, 0, VERSION - 1),
        (VERSION + 1, VERSION, VERSION),
        (VERSION + 7, OLDEST, VERSION),
        (VERSION + 1, 0, VERSION),
    ],
    ids=["the same", "the one before", "the next", "far ahead and patient", "ahead, and says no more"],
)
def test_two_ends_speak_the_newest_that_both_know(theirs: int, their_oldest: int, spoken: int) -> None:
    assert agree(theirs, their_oldest, them="them", us="us") == spoken


def test_an_end_that_is_too_old_is_the_one_to_update() -> None:
    with pytest.raises(ProtocolMismatch) as told:
        agree(OLDEST - 1, 0, them="the host-agent of alpha", us="the control plane")
    assert "too old" in told.value.what
    assert told.value.next_step.startswith("update the host-agent of alpha")


def test_an_end_that_no_longer_speaks_ours_lets_us_be_updated() -> None:
    with pytest.raises(ProtocolMismatch) as told:
        agree(VERSION + 2, VERSION + 1, them="the host-agent of alpha", us="the control plane")
    assert "too new" in told.value.what
    assert told.value.next_step.startswith("update the control plane")


def test_the_version_before_is_spoken() -> None:
    assert VERSION - OLDEST >= 1
