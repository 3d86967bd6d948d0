"""What the journal holds, and what can be wrong with it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from mosaic_framework.errors import FleetError

from mosaic_hostagent.clock import Stamp
from mosaic_hostagent.ladder import Step


class JournalDamaged(FleetError):
    """The host-agent's journal cannot be read."""

    code = "journal-damaged"

    def __init__(self, folder: Path, why: str) -> None:
        super().__init__(
            f"the journal in {folder} is damaged",
            why=why,
            next_step=f"mv {folder} {folder}.damaged, then start again: messages given to this host become unknown",
        )


class JournalTooNew(FleetError):
    """The journal was written by a newer host-agent."""

    code = "journal-too-new"
    hint = "update mosaic on this machine"


class Mode(StrEnum):
    """When a message may be typed. Words of the register and the journal."""

    SEND = "send"
    WHEN_IDLE = "when_idle"
    INTERRUPT = "interrupt"
    INTERRUPT_ONLY = "interrupt_only"

    @property
    def interrupts(self) -> bool:
        """Whether the runtime's own interrupt comes first."""
        return self in (Mode.INTERRUPT, Mode.INTERRUPT_ONLY)


@dataclass(frozen=True, slots=True)
class Incoming:
    """A message as the control plane gave it, with its deadline on this machine's clocks."""

    message_id: str
    agent_id: str
    seat_seq: int
    body: str
    digest: str
    sender: str
    sender_is_person: bool
    deadline: Stamp
    mode: Mode = Mode.SEND


@dataclass(frozen=True, slots=True)
class Stored:
    """A message as the journal has it."""

    message: Incoming
    step: Step
    reason: str
    run_id: str
    at_wall_ms: int
    """when it made that step"""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What proves a step: `journal`, `screen`, `hook` or `api`, and one line for a person, never the body."""

    source: str
    detail: str


@dataclass(frozen=True, slots=True)
class OpenRun:
    """A run that has begun and not ended."""

    run_id: str
    agent_id: str


def exit_code(status: int | None) -> int:
    """Return an exit status as the wire has it: -1 when nobody knows it."""
    return -1 if status is None else status
