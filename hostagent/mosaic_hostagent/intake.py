"""From a report to what the host-agent knows and does: the seat's signals, and who waits for prompts and turns."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping

import structlog
from mosaic_framework.errors import InvalidInput
from mosaic_framework.manifest import Meaning

from mosaic_hostagent.residents import Resident
from mosaic_hostagent.sessions import PaneSession
from mosaic_hostagent.signals import (
    HANDED_OVER,
    REPORTABLE,
    REPORTED,
    SOURCE,
    Report,
    SeatNotReady,
    Signal,
    Told,
    TurnListener,
    answer_of,
    fold,
    fold_report,
    understand,
)

_REMEMBERED = 512
_DETAIL_LIMIT = 200

log = structlog.get_logger(__name__)


class NotAState(InvalidInput):
    """An agent cannot report this state."""

    code = "no-such-state"


class Intake:
    """Takes reports, each once. `on_signal` is told of each seat whose signals are new."""

    def __init__(
        self,
        residents: Mapping[str, Resident],
        on_signal: Callable[[Resident], None],
        listener: TurnListener | None = None,
    ) -> None:
        self._residents = residents
        self._on_signal = on_signal
        self._listener = listener
        self._seen: OrderedDict[tuple[str, str], None] = OrderedDict()

    async def take(self, session: PaneSession, report: Report) -> str:
        """Take one report of a session; returns what its hook is to print. Raises NotAState, SeatNotReady."""
        resident = self._residents.get(session.agent_id)
        if session.over:
            return await self._take_late(session, report, resident)
        if resident is None or resident.manifest is None or resident.run_id != session.run_id:
            raise SeatNotReady
        if self._is_known(session.run_id, report.id):
            return ""
        at = time.monotonic() - max(0.0, time.time() - report.at)
        if report.event == REPORTED:
            self._report(resident, report, at)
            return ""
        if report.event == HANDED_OVER:
            if self._listener is not None:
                await self._listener.handover_taken(session.agent_id, session.run_id)
            return ""
        signal = understand(report, resident.manifest, at=at)
        log.debug("signal", agent=session.agent_id, run=session.run_id, said=signal.event, means=signal.means)
        resident.speaks = True  # what makes its program tell of prompts and turns is in place: it has just told
        self._enter(resident, fold(resident.hooks, signal))
        return await self._tell(session, signal, resident)

    async def _take_late(self, session: PaneSession, report: Report, resident: Resident | None) -> str:
        """Take what a program said before it ended: it proves what became of messages, and no state."""
        if resident is None or report.event in (REPORTED, HANDED_OVER):
            return ""
        if resident.manifest is None:
            if resident.seat.running and not resident.seat.on_demand:
                raise SeatNotReady
            return ""  # no program of it will run, so that nobody reads its signals
        if not self._is_known(session.run_id, report.id):
            at = time.monotonic() - max(0.0, time.time() - report.at)
            await self._tell_turns(session, understand(report, resident.manifest, at=at))
        return ""

    def _report(self, resident: Resident, report: Report, at: float) -> None:
        state = report.payload.get("state")
        if not isinstance(state, str) or state not in REPORTABLE:
            raise NotAState(f"an agent cannot report {str(state)[:40]!r}", next_step=f"one of: {', '.join(REPORTABLE)}")
        detail = " ".join(str(report.payload.get("detail") or "").split())[:_DETAIL_LIMIT]
        self._enter(resident, fold_report(resident.hooks, state, at=at, detail=detail))

    def _enter(self, resident: Resident, told: Told) -> None:
        resident.hooks = told
        self._on_signal(resident)

    async def _tell(self, session: PaneSession, signal: Signal, resident: Resident) -> str:
        """Tell who waits for prompts and turns; returns the answer to a hook that can take the next text."""
        await self._tell_turns(session, signal)
        listener, agent, run = self._listener, session.agent_id, session.run_id
        event = resident.manifest.signals.events.get(signal.event) if resident.manifest is not None else None
        if listener is None or event is None or event.handover is None:
            return ""
        if time.monotonic() - signal.at > _ANSWERED_SECONDS:
            return ""
        text = await listener.handover(agent, run)
        if text is None:
            return ""
        self._enter(resident, fold(resident.hooks, Signal(signal.event, Meaning.TURN_STARTED, time.monotonic())))
        return answer_of(event, text)

    async def _tell_turns(self, session: PaneSession, signal: Signal) -> None:
        listener, agent, run = self._listener, session.agent_id, session.run_id
        if listener is None:
            return
        at_ms = int((time.time() - (time.monotonic() - signal.at)) * 1000)
        match signal.means:
            case Meaning.PROMPT_ACCEPTED:
                await listener.prompt_accepted(agent, run, signal.prompt, SOURCE, at_ms=at_ms)
            case Meaning.TURN_STARTED:
                await listener.turn_started(agent, run, SOURCE, at_ms=at_ms)
            case Meaning.TURN_ENDED | Meaning.TURN_FAILED:
                await listener.turn_ended(agent, run, SOURCE, at_ms=at_ms)

    def _is_known(self, run_id: str, identity: str) -> bool:
        key = (run_id, identity)
        known = key in self._seen
        self._seen[key] = None
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)
        return known


_ANSWERED_SECONDS = 2.0
"""Behind this nobody reads the answer any more: the reporter has gone, and the report came from its spool."""
