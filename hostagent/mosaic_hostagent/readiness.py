"""Which state a seat is in, from what is known of its process and its screen (pure).

No signal, or signals that contradict, is `unknown`. Unknown never means that the seat may be killed.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from mosaic_framework.manifest import Manifest
from mosaic_proto.v1 import fleet_pb2

from mosaic_hostagent.terminal.composer import composer_region
from mosaic_hostagent.terminal.evidence import Snapshot, prompt_is_up, signs_seen

SETTLED_SECONDS = 3.0
"""A program in a line composer that wrote nothing for so long, and runs no other, waits for input."""


class AgentState(StrEnum):
    """What a host can say of a seat. Stale and lost are for the control plane to say."""

    UNKNOWN = "unknown"
    STARTING = "starting"
    WORKING = "working"
    AVAILABLE = "available"
    WAITING = "waiting"
    EXITED = "exited"


@dataclass(frozen=True, slots=True)
class State:
    """A state, where it is known from, and the evidence in one line."""

    state: AgentState
    source: str
    detail: str


@dataclass(frozen=True, slots=True)
class Signals:
    """What is known of a seat's living program. Seconds since its start, and since it last wrote something."""

    snapshot: Snapshot | None
    age: float
    quiet: float
    was_ready: bool
    """its ready sign, or its composer, has been seen in this run"""
    in_foreground: bool
    """the seat's own process, not one that it started, has the terminal"""


NOT_RUNNING = State(AgentState.EXITED, "process", "not running")


def exited(exit_status: int | None) -> State:
    """Return the state of a seat whose program has ended."""
    told = "its exit status is not known" if exit_status is None else f"exit status {exit_status}"
    return State(AgentState.EXITED, "process", f"its program has ended, {told}")


def readiness(signals: Signals, manifest: Manifest) -> State:
    """Return the one state that the signals of a living program support."""
    shot = signals.snapshot
    if shot is None:
        return State(AgentState.UNKNOWN, "process", "alive, and its terminal cannot be read")
    if (sign := signs_seen(manifest.signs.waiting, shot.screen, shot.title)) is not None:
        return State(AgentState.WAITING, "screen", f"it asks a question: {sign.where} shows {sign.pattern!r}")
    if not signals.was_ready and not shows_ready(shot, manifest):
        if is_settled(signals, manifest):
            return State(AgentState.AVAILABLE, "process", "alive, quiet, and it runs nothing else; no known prompt")
        if signals.age < manifest.signs.ready_within_seconds:
            return State(AgentState.STARTING, "process", "alive, and not ready yet")
        return State(AgentState.UNKNOWN, "screen", f"no ready sign within {manifest.signs.ready_within_seconds} s")
    if (sign := signs_seen(manifest.signs.working, shot.screen, shot.title)) is not None:
        return State(AgentState.WORKING, "screen", f"{sign.where} shows {sign.pattern!r}")
    if manifest.composer.kind == "line":
        return _line_state(signals, shot, manifest)
    if composer_region(manifest.composer, shot.screen) is None:
        return State(AgentState.UNKNOWN, "screen", "its composer is not on the screen")
    return State(AgentState.AVAILABLE, "screen", "its composer is on the screen")


def _line_state(signals: Signals, shot: Snapshot, manifest: Manifest) -> State:
    if shot.alternate:
        return State(AgentState.WORKING, "process", f"a full-screen program is open: {shot.command}")
    if prompt_is_up(shot, manifest):
        return State(AgentState.AVAILABLE, "screen", "its prompt is up")
    if is_settled(signals, manifest):
        return State(AgentState.AVAILABLE, "process", "quiet, and it runs nothing else; no known prompt")
    if signals.in_foreground:
        return State(AgentState.WORKING, "screen", "no prompt at the cursor")
    return State(AgentState.WORKING, "process", f"it runs {shot.command}")


def is_settled(signals: Signals, manifest: Manifest) -> bool:
    """Say whether a program in a line composer waits for input, though no known prompt says so."""
    return manifest.composer.kind == "line" and signals.in_foreground and signals.quiet >= SETTLED_SECONDS


def shows_ready(shot: Snapshot, manifest: Manifest) -> bool:
    """Say whether the screen shows that the program takes input."""
    if manifest.composer.kind == "line":
        return prompt_is_up(shot, manifest)
    return signs_seen(manifest.signs.ready, shot.screen, shot.title) is not None


def to_wire(state: AgentState) -> fleet_pb2.AgentState.ValueType:
    """Return the state as the control plane knows it."""
    return fleet_pb2.AgentState.Value(f"AGENT_STATE_{state.name}")
