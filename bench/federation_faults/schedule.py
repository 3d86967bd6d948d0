"""What is done to three clusters, and when: a list of faults that follows from a seed alone (pure)."""

from __future__ import annotations

import random
from collections.abc import Callable

from bench.faults.schedule import Fault
from bench.federation_faults.layout import DATABASES, PAIRS, REPLICAS, SIDES

KINDS = (
    "cut clusters",
    "cut replica",
    "loss",
    "kill replica",
    "pause replica",
    "restart database",
    "put back",
    "grants",
)

_ALL = tuple(name for names in REPLICAS.values() for name in names)
_TIME_TO_COME_UP = 0.7
"""The share of a window after which nothing is begun any more that has to start again."""


def schedule(seed: int, *, window: float, faults: int) -> list[Fault]:
    """Return `faults` faults in the order of time, all undone within `window` seconds.

    `put back` takes a copy of a register at its beginning, and puts the register back to it at its end.
    """
    chance = random.Random(seed)
    deck = [kind for round_ in range(1 + faults // len(KINDS)) for kind in chance.sample(KINDS, len(KINDS))]
    return sorted((_fault(kind, chance, window) for kind in deck[:faults]), key=lambda fault: fault.at)


def _fault(kind: str, chance: random.Random, window: float) -> Fault:
    comes_up_again = kind.startswith(("kill", "restart", "put"))
    last = window * (_TIME_TO_COME_UP if comes_up_again else 1.0)
    at = chance.uniform(0, last * (0.5 if kind == "put back" else 0.8))
    lasting = min(last - at, chance.uniform(0.1, 0.6) * window)
    target, other, amount = _AIMS[kind](chance)
    return Fault(round(at, 3), kind, target, round(lasting, 3), other, amount)


def _any(*names: str) -> Callable[[random.Random], tuple[str, str, float]]:
    return lambda chance: (chance.choice(names), "", 0.0)


def _pair(chance: random.Random) -> tuple[str, str, float]:
    one, other = chance.choice(PAIRS)
    return one, other, 0.0


def _side(chance: random.Random) -> tuple[str, str, float]:
    side = chance.choice(SIDES)
    return side.owner, side.viewer, 0.0


_AIMS: dict[str, Callable[[random.Random], tuple[str, str, float]]] = {
    "cut clusters": _pair,
    "cut replica": _any(*_ALL),
    "loss": lambda chance: (chance.choice(_ALL), "", 0.3),
    "kill replica": _any(*_ALL),
    "pause replica": _any(*_ALL),
    "restart database": lambda chance: (chance.choice(tuple(DATABASES)), chance.choice(("kill -9", "fast")), 0.0),
    "put back": _any(*REPLICAS),
    "grants": _side,
}
