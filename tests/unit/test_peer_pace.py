"""When an owner's stream says of itself that all has been told: often enough, and never when it is not so."""

from __future__ import annotations

from mosaic_controlplane.federation.pace import BEHIND_SECONDS, Pace


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_two_bookmarks_are_at_most_15_s_apart_whatever_the_dice_say() -> None:
    for dice in (0.0, 1.0):
        clock = Clock()
        pace = Pace(clock, jitter=lambda dice=dice: dice)  # type: ignore[misc]
        assert pace.bookmark_is_due()
        pace.bookmarked()
        said = clock.now
        while not pace.bookmark_is_due():
            clock.now += max(0.01, pace.next_sign())
            if pace.sign_is_due():
                pace.said()
        assert 7.5 < clock.now - said <= 15


def test_nothing_is_said_to_have_been_told_while_a_transaction_holds_back_what_came_after_it() -> None:
    clock = Clock()
    pace = Pace(clock)
    pace.looked(held_back=True, oldest_open=7)
    clock.now += BEHIND_SECONDS - 1
    pace.looked(held_back=True, oldest_open=7)
    assert pace.bookmark_is_due(), "a short one is as usual"
    clock.now += 2
    pace.looked(held_back=True, oldest_open=7)
    assert not pace.bookmark_is_due()
    pace.looked(held_back=True, oldest_open=8)
    assert pace.bookmark_is_due(), "another one: what the first held back has been told"
    clock.now += BEHIND_SECONDS + 1
    pace.looked(held_back=True, oldest_open=8)
    assert not pace.bookmark_is_due()
    pace.looked(held_back=False, oldest_open=9)
    assert pace.bookmark_is_due()
