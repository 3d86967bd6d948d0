"""What is done to a fleet, and when: a list of faults that follows from a seed alone (pure)."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

REPLICAS = ("replica1", "replica2", "replica3")
HOSTS = ("alpha", "beta", "gamma", "delta")
DATABASE = "database"
MACHINES = (DATABASE, *REPLICAS, *HOSTS)

KINDS = (
    "kill replica",
    "kill host-agent",
    "kill tmux",
    "restart database",
    "cut machine",
    "cut pair",
    "loss",
    "delay",
    "pause replica",
    "pause host-agent",
    "full disk",
    "clock jump",
)


@dataclass(frozen=True, slots=True)
class Fault:
    """`kind` is done to `target` at `at` seconds, and undone `lasting` seconds later.

    `other`: the second end of a cut pair, or how PostgreSQL is stopped; `amount`: the share of a loss, the seconds of
    a delay or of a jump.
    """

    at: float
    kind: str
    target: str
    lasting: float
    other: str = ""
    amount: float = 0.0

    @property
    def until(self) -> float:
        """When it is undone."""
        return self.at + self.lasting

    def __str__(self) -> str:
        more = f" {self.other}" if self.other else ""
        more += f" {self.amount:g}" if self.amount else ""
        return f"{self.at:.2f}-{self.until:.2f} s {self.kind} {self.target}{more}"


def schedule(seed: int, *, window: float, faults: int) -> list[Fault]:
    """Return `faults` faults in the order of time, all undone within `window` seconds.

    A process that was killed has the rest of the window, at least a quarter of it, to come up again, so that the end
    of the window is the moment of healing.
    """
    chance = random.Random(seed)
    # Kinds in turn, from a shuffled deck: a few seeds already meet each of them.
    deck = [kind for round_ in range(1 + faults // len(KINDS)) for kind in chance.sample(KINDS, len(KINDS))]
    found = [_fault(kind, chance, window) for kind in deck[:faults]]
    return sorted(found, key=lambda fault: fault.at)


def _fault(kind: str, chance: random.Random, window: float) -> Fault:
    comes_up_again = kind.startswith(("kill", "restart"))
    last = window * (0.75 if comes_up_again else 1.0)
    at = chance.uniform(0, last * 0.8)
    lasting = min(last - at, chance.uniform(0.1, 0.25 if comes_up_again else 0.6) * window)
    target, other, amount = _AIMS[kind](chance)
    return Fault(round(at, 3), kind, target, round(lasting, 3), other, amount)


def _any(*names: str) -> Callable[[random.Random], tuple[str, str, float]]:
    return lambda chance: (chance.choice(names), "", 0.0)


def _pair(chance: random.Random) -> tuple[str, str, float]:
    replica = chance.choice(REPLICAS)
    return replica, chance.choice((DATABASE, *HOSTS)), 0.0


def _loss(chance: random.Random) -> tuple[str, str, float]:
    return chance.choice((*HOSTS, "all hosts")), "", 0.3


def _delay(chance: random.Random) -> tuple[str, str, float]:
    return chance.choice(HOSTS), "", chance.choice((0.02, 0.08, 0.2))


def _jump(chance: random.Random) -> tuple[str, str, float]:
    # Within ten minutes a certificate stays valid, an hour back it is not yet: both must be survived.
    return chance.choice((*HOSTS, *REPLICAS)), "", chance.choice((-3600.0, -300.0, 300.0, 3600.0))


_AIMS: dict[str, Callable[[random.Random], tuple[str, str, float]]] = {
    "kill replica": _any(*REPLICAS),
    "kill host-agent": _any(*HOSTS),
    "kill tmux": _any(*HOSTS),
    "restart database": lambda chance: (DATABASE, chance.choice(("kill -9", "fast")), 0.0),
    "cut machine": _any(*REPLICAS, *HOSTS),
    "cut pair": _pair,
    "loss": _loss,
    "delay": _delay,
    "pause replica": _any(*REPLICAS),
    "pause host-agent": _any(*HOSTS),
    "full disk": _any(*HOSTS),
    "clock jump": _jump,
}
