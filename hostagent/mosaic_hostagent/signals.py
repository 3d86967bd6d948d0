"""What a runtime says of itself through its hooks, and what that adds up to in one run (pure).

Signals are at-least-once, and may be late or out of order: each has an id, and the moment at which it happened.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from mosaic_framework.errors import FleetError
from mosaic_framework.manifest import Event, Manifest, Meaning

PROMPT_LIMIT = 512 * 1024
_DETAIL_LIMIT = 200
REPORTED = "agent-report"
"""The event of `mosaic agent report STATE`: the agent's own word, whatever its runtime."""
HANDED_OVER = "handover-taken"
"""The event of a reporter that has printed the text which `handover` returned."""
SOURCE = "hook"
REPORTABLE = ("working", "available", "waiting", "stuck")


class SeatNotReady(FleetError):
    """The host-agent does not hold this seat yet."""

    code = "seat-not-ready"


class TurnListener(Protocol):
    """Who wants to hear what a runtime says of prompts and turns. `at_ms`: when it happened, Unix milliseconds."""

    async def prompt_accepted(
        self, agent_id: str, run_id: str, prompt: str, source: str, *, at_ms: int | None = None
    ) -> None:
        """The runtime said that it took this prompt."""

    async def turn_started(self, agent_id: str, run_id: str, source: str, *, at_ms: int | None = None) -> None:
        """A turn began."""

    async def turn_ended(self, agent_id: str, run_id: str, source: str, *, at_ms: int | None = None) -> None:
        """A turn ended."""

    async def handover(self, agent_id: str, run_id: str) -> str | None:
        """Return a text with which the runtime may go on at the end of a turn, journalled before; None: nothing."""

    async def handover_taken(self, agent_id: str, run_id: str) -> None:
        """The runtime's hook has read that text, and given it to the runtime."""


@dataclass(frozen=True, slots=True)
class Report:
    """One event as a reporter gave it. `at`: when it happened, Unix seconds."""

    id: str
    event: str
    at: float
    payload: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Signal:
    """One event, understood. Times are monotonic seconds of this process."""

    event: str
    means: Meaning | None
    """None for an event that the manifest does not know: it proves life, and nothing more"""
    at: float
    prompt: str = ""
    session: str = ""
    model: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Told:
    """What the signals of one run add up to. `phase` is empty while they claim no state."""

    phase: str = ""
    """working | waiting | available | failed, or a state that the agent reported"""
    event: str = ""
    """the event that made the phase"""
    detail: str = ""
    since: float = 0.0
    heard: float = 0.0
    """when the newest event happened"""
    count: int = 0
    reported: bool = False
    """the phase is the agent's own word"""
    model: str = ""
    session: str = ""


_PHASES = {
    Meaning.PROMPT_ACCEPTED: "working",
    Meaning.TURN_STARTED: "working",
    Meaning.ASKED: "waiting",
    Meaning.ANSWERED: "working",
    Meaning.TURN_ENDED: "available",
    Meaning.TURN_FAILED: "failed",
}


def understand(report: Report, manifest: Manifest, *, at: float) -> Signal:
    """Return what `report` says, by the manifest's table of events."""
    if report.event == REPORTED:
        return Signal(report.event, None, at, detail=_text(report.payload.get("detail")))
    event = manifest.signals.events.get(report.event)
    if event is None:
        return Signal(report.event, None, at)
    means = event.means
    if event.failed is not None and report.payload.get(event.failed.field) == event.failed.value:
        means = Meaning.TURN_FAILED
    return Signal(
        event=report.event,
        means=means,
        at=at,
        prompt=_field(report, event.prompt)[:PROMPT_LIMIT],
        session=_field(report, event.session)[:_DETAIL_LIMIT],
        model=_field(report, event.model)[:_DETAIL_LIMIT],
        detail=": ".join(part for part in (_text(report.payload.get(name)) for name in event.detail) if part),
    )


def fold(told: Told, signal: Signal) -> Told:
    """Return what is known after `signal`. One older than what the phase rests on changes no phase."""
    known = replace(
        told,
        heard=max(told.heard, signal.at),
        count=told.count + 1,
        model=signal.model or told.model,
        session=signal.session or told.session,
    )
    if signal.at < told.since:
        return replace(known, model=told.model or signal.model, session=told.session or signal.session)
    means = signal.means
    if means is Meaning.SESSION_STARTED:
        # The same session again is a compaction amid a turn; a new one has yet to say what it does.
        if signal.session and signal.session == told.session:
            return known
        return replace(known, phase="", event=signal.event, detail="", since=signal.at, reported=False)
    if means is Meaning.ACTIVITY:
        # Work goes on: so a question that was open has been answered. It proves no turn that has ended.
        means = Meaning.ANSWERED if told.phase == "waiting" and not told.reported else None
    if means not in _PHASES or (told.reported and told.phase in ("waiting", "stuck") and not _begins(means)):
        return known
    return replace(
        known, phase=_PHASES[means], event=signal.event, detail=signal.detail, since=signal.at, reported=False
    )


def fold_report(told: Told, state: str, *, at: float, detail: str) -> Told:
    """Return what is known after the agent itself said its state. `waiting` and `stuck` hold until the next turn."""
    if at < told.since:
        return told
    return replace(
        told,
        phase=state,
        event=REPORTED,
        detail=detail,
        since=at,
        heard=max(told.heard, at),
        count=told.count + 1,
        reported=True,
    )


def _begins(means: Meaning | None) -> bool:
    return means in (Meaning.PROMPT_ACCEPTED, Meaning.TURN_STARTED)


def answer_of(event: Event, text: str) -> str:
    """Return what a hook prints so that its runtime goes on with `text`."""
    return (event.handover or "").replace("{text_json}", json.dumps(text, ensure_ascii=False))


def _field(report: Report, name: str | None) -> str:
    found = report.payload.get(name) if name else None
    return found if isinstance(found, str) else ""


def _text(value: object) -> str:
    """Return a value as a part of one line."""
    if not isinstance(value, str | int):
        return ""
    return " ".join(str(value).split())[:_DETAIL_LIMIT]
