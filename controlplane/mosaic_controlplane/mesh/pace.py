"""How often hosts beat: slower as the fleet grows, so that beats never cost more than so much (pure)."""

from __future__ import annotations

import math
from datetime import timedelta

FASTEST = timedelta(seconds=5)
SLOWEST = timedelta(seconds=60)
STEP = timedelta(seconds=5)
BEATS_A_SECOND = 400
"""Of the whole cluster. A beat costs a replica well under a millisecond of CPU (bench/mesh measures it)."""
_BACK_AT = 0.8
"""Beating faster again waits until so much of the room is used, so that a fleet at the limit does not swing."""
_SHORTEST_ANSWER = timedelta(seconds=4)
_ANSWER_SHARE = 0.8


def beat_interval(hosts: int, now: timedelta) -> timedelta:
    """Return how often `hosts` hosts should beat that beat every `now`: a multiple of 5 s, at most 60 s."""
    wanted = _interval(hosts)
    return min(now, _interval(math.ceil(hosts / _BACK_AT))) if wanted < now else wanted


def _interval(hosts: int) -> timedelta:
    steps = math.ceil(hosts / BEATS_A_SECOND / STEP.total_seconds())
    return max(FASTEST, min(SLOWEST, steps * STEP))


def answer_within(interval: timedelta) -> timedelta:
    """Return how long a beat may go unanswered before its host dials anew: 4 s, more where beats are rare.

    A large fleet whose control plane is slow for a moment must not dial anew as one.
    """
    return max(_SHORTEST_ANSWER, _ANSWER_SHARE * interval)
