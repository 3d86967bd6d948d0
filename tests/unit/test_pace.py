"""How often something may happen."""

from __future__ import annotations

from mosaic_controlplane.identity.pace import Bucket, PerPeer


class Clock:
    """A clock that stands still until it is told otherwise."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_bucket_lets_a_burst_through_and_then_its_rate() -> None:
    clock = Clock()
    bucket = Bucket(rate=2, burst=3, clock=clock)
    assert [bucket.take() for _ in range(4)] == [True, True, True, False]
    clock.now += 1
    assert [bucket.take() for _ in range(3)] == [True, True, False]
    clock.now += 1000
    assert [bucket.take() for _ in range(4)] == [True, True, True, False]


def test_one_peer_that_floods_does_not_shut_out_another() -> None:
    pace = PerPeer(rate=1, burst=2, clock=Clock())
    assert [pace.take("flood") for _ in range(3)] == [True, True, False]
    assert pace.take("other")


def test_the_peers_remembered_are_bounded_and_the_longest_silent_go_first() -> None:
    pace = PerPeer(rate=0, burst=1, peers=2, clock=Clock())
    assert [pace.take(peer) for peer in ("a", "b", "a", "c", "a")] == [True, True, False, True, False]
    assert pace.take("b")  # forgotten, for "c" had come
