"""The steps of a message on its host, and which may follow which (pure).

`typing` and `entering` are the journal's own: they stand before an act that cannot be undone, so that a crash in it is
seen. All others are told to the control plane.
"""

from __future__ import annotations

from enum import StrEnum

from mosaic_proto.v1 import messages_pb2


class Step(StrEnum):
    """Where a message is. The last five are ends; of them only `unknown` may still be raised, by evidence."""

    DISPATCHED = "dispatched"
    TYPING = "typing"
    TYPED = "typed"
    ENTERING = "entering"
    SUBMITTED = "submitted"
    ACCEPTED = "accepted"
    TURN_STARTED = "turn_started"
    TURN_ENDED = "turn_ended"
    UNKNOWN = "unknown"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


_RISING = (
    Step.DISPATCHED,
    Step.TYPING,
    Step.TYPED,
    Step.ENTERING,
    Step.SUBMITTED,
    Step.ACCEPTED,
    Step.TURN_STARTED,
    Step.TURN_ENDED,
)
_HEIGHT = {step: height for height, step in enumerate(_RISING)}
_PRIVATE = frozenset({Step.TYPING, Step.ENTERING})
_NEVER_AGAIN = frozenset({Step.TYPING, Step.TYPED, Step.ENTERING})


def may_follow(now: Step, then: Step) -> bool:
    """Say whether a message at `now` may go to `then`. Steps only rise; a message that may be typed is never unsure."""
    match then:
        case Step.UNKNOWN:
            return now in _NEVER_AGAIN
        case Step.FAILED | Step.EXPIRED | Step.CANCELLED:
            return now == Step.DISPATCHED
        case _ if now == Step.UNKNOWN:
            return _HEIGHT[then] >= _HEIGHT[Step.SUBMITTED]
        case _:
            return now in _HEIGHT and _HEIGHT[then] > _HEIGHT[now]


def is_told(step: Step) -> bool:
    """Say whether the control plane hears of this step."""
    return step not in _PRIVATE


def unsure_after_crash(step: Step) -> bool:
    """Say whether a process that died at `step` leaves it open if the text was typed or sent."""
    return step in _NEVER_AGAIN


def is_open(step: Step) -> bool:
    """Say whether the message still waits to be typed."""
    return step == Step.DISPATCHED


def to_wire(step: Step) -> messages_pb2.MessageStep.ValueType:
    """Return the step as the control plane knows it."""
    return messages_pb2.MessageStep.Value(f"MESSAGE_STEP_{step.name}")
