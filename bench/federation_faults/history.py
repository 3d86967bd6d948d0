"""What clients, shells and viewers saw of one run across clusters: plain records, all times in seconds of one
monotonic clock (pure).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from bench.faults.history import Run, View


@dataclass(frozen=True, slots=True)
class SentAcross:
    """A message that `via` sent to an agent of `owner`, first at `asked`."""

    message_id: str
    via: str
    owner: str
    agent: str
    mark: str
    outcome: str
    asked: float


@dataclass(frozen=True, slots=True)
class PutBack:
    """A register was put back at `stopped` to how it was when a copy of it was begun."""

    cluster: str
    copied: float
    stopped: float


@dataclass(slots=True)
class AcrossRun(Run):
    """All of it. Views are right when they show what the owner's rows and its grants say, and nothing else."""

    across: list[SentAcross] = field(default_factory=list)
    steps: dict[str, dict[str, str]] = field(default_factory=dict)
    """cluster → message → the step that it tells of in the end"""
    put_back: list[PutBack] = field(default_factory=list)
    shown: dict[str, set[tuple[str, str, str]]] = field(default_factory=dict)
    """viewer → whatever it showed at any time of others: cluster, agent, class"""
    views_at_rest: list[View] = field(default_factory=list)
    """the same, when everything that was sent has come to an end"""
    held: dict[str, int] = field(default_factory=dict)
    """cluster → the most of B's cards that B's register ever said it holds"""
