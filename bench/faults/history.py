"""What clients, shells and the register saw of one run: plain records, all times in seconds of one monotonic clock
(pure).
"""

from __future__ import annotations

from dataclasses import dataclass, field

OK, FAIL, UNKNOWN = "ok", "fail", "unknown"
OPEN_STEPS = frozenset({"queued", "dispatched", "typed"})
ARRIVED_STEPS = frozenset({"submitted", "accepted", "turn_started", "turn_ended"})
UNARRIVED_ENDS = frozenset({"failed", "expired", "cancelled"})


@dataclass(slots=True)
class Write:
    """One write under one request id, however often it was repeated.

    `outcome`: ok once any answer said so; fail when a definite refusal came and nothing before may have been carried
    out; unknown otherwise. `answers`: what each ok said, in a comparable form; they must be the same.
    """

    request_id: str
    kind: str
    subject: str
    client: str
    invoked: float
    ended: float = 0.0
    outcome: str = UNKNOWN
    attempts: int = 0
    error: str = ""
    answers: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Sent:
    """A message: its id, for which agent, and the mark that its text appends to that agent's file."""

    message_id: str
    agent: str
    mark: str
    outcome: str


@dataclass(frozen=True, slots=True)
class Received:
    """A receipt at the end. `submitted_at`: seconds of the run's clock; None: never."""

    step: str
    seat_seq: int
    submitted_at: float | None = None


@dataclass(slots=True)
class Holding:
    """A claim as its holder believed in it: `since` the answer, `until` the lease is over, counted from before the
    question (`asked`: when that was put first), or until it asked to give it back.
    """

    card: str
    fence: int
    holder: str
    asked: float
    since: float
    until: float


@dataclass(frozen=True, slots=True)
class Completed:
    """A completion that was acknowledged."""

    card: str
    fence: int
    holder: str
    asked: float
    told: float


@dataclass(frozen=True, slots=True)
class View:
    """What one way of looking showed when it was asked last, against what is so; `after`: seconds since healing until
    it was right, None: never.
    """

    name: str
    after: float | None
    shown: str = ""


@dataclass(slots=True)
class Run:
    """All of it."""

    writes: list[Write] = field(default_factory=list)
    sent: list[Sent] = field(default_factory=list)
    received: dict[str, Received] = field(default_factory=dict)
    executed: dict[str, list[str]] = field(default_factory=dict)
    """agent → marks in the order in which its shell carried them out"""
    seats_killed: dict[str, list[float]] = field(default_factory=dict)
    """agent → when its terminal was killed with all in it"""
    holdings: list[Holding] = field(default_factory=list)
    completed: list[Completed] = field(default_factory=list)
    mismatches: list[str] = field(default_factory=list)
    """what `backlog verify` found"""
    register: list[str] = field(default_factory=list)
    """what the register's own history of cards broke, or lacks of what was acknowledged"""
    views: list[View] = field(default_factory=list)
    internal: list[str] = field(default_factory=list)
    """answers by which a control plane said that it had failed itself"""
