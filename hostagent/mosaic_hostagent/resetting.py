"""Resets of seats: an empty context, seeded anew, as a new run, without ending the program where its runtime can.

What is wanted is desired state with a count, or a task that has ended. How far a reset is stands in the journal before
each act, so that a host-agent killed amid it resets nothing twice. While a reset waits, no message is typed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import structlog
from mosaic_framework.errors import FleetError
from mosaic_framework.ids import new_id
from mosaic_framework.manifest import Manifest
from mosaic_framework.steps import reached

from mosaic_hostagent import reconcile
from mosaic_hostagent.journal import Journal
from mosaic_hostagent.journal_resets import ASKED, BETWEEN_TASKS, Reset, ResetStep
from mosaic_hostagent.keeper import SeatKeeper
from mosaic_hostagent.launching import refresh_seed
from mosaic_hostagent.readiness import AgentState
from mosaic_hostagent.residents import Resident
from mosaic_hostagent.seats import Seat, Session
from mosaic_hostagent.sessions import Sessions
from mosaic_hostagent.terminal.command import Unproven, enter_command, finish_command
from mosaic_hostagent.terminal.deliver import NotNow, Pane
from mosaic_hostagent.terminal.pool import ServerPool
from mosaic_hostagent.terminal.problems import TerminalLost
from mosaic_hostagent.waiting import wait_at_most

RESTART = "restart"
HOLD = "it is being reset"
CALM_SECONDS = 1.0
"""A screen says a moment after a prompt was sent that a turn has begun."""
LONG_CALM_SECONDS = 10.0
"""So long available, and what moves on its screen is no turn."""
_LOOK_FIRST, _LOOK_LAST = 0.1, 1.0

log = structlog.get_logger(__name__)


class Resetting:
    """Carries out the resets of this host's seats. `wake` begins a round of the supervisor."""

    def __init__(
        self,
        *,
        journal: Journal,
        residents: Mapping[str, Resident],
        keeper: SeatKeeper,
        pool: ServerPool,
        sessions: Sessions,
        wake: Callable[[], None],
    ) -> None:
        self._journal = journal
        self._residents = residents
        self._keeper = keeper
        self._pool = pool
        self._sessions = sessions
        self._wake = wake
        self._journalled: set[str] = set()
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def resume(self) -> None:
        """Find what the last host-agent had under way; it goes on when its seats have been seen."""
        self._journalled = {one.agent_id for one in await self._journal.resets()}

    def look(self) -> None:
        """Take up each reset that is wanted and not under way."""
        for agent_id, resident in self._residents.items():
            if agent_id in self._tasks:
                continue
            if resident.renew is None and agent_id not in self._journalled:
                resident.release(HOLD)
            if not resident.alive or resident.ending or not resident.seat.running:
                continue
            if resident.reset_is_due or agent_id in self._journalled:
                task = asyncio.create_task(self._reset(resident), name=f"reset-{agent_id}")
                self._tasks[agent_id] = task
                task.add_done_callback(partial(self._done, agent_id))

    async def task_ended(self, agent_id: str) -> bool:
        """A task of this seat is over; say whether the seat is now reset before it takes another.

        Returns when the reset is in the journal and the seat is held: no message is typed before it is done.
        """
        resident = self._residents.get(agent_id)
        if resident is None or not resident.alive or not resident.seat.spec.reset_between_tasks:
            return False
        session = resident.session
        if session is None:
            return False
        resident.hold(HOLD)
        self._journalled.add(agent_id)
        await self._journal.want_reset(
            Reset(agent_id, session.run_id, str(new_id()), wanted=session.reset, cause=BETWEEN_TASKS)
        )
        self._journalled.add(agent_id)  # a look in between has found nothing to do yet
        self.look()
        return True

    async def close(self) -> None:
        """Leave what is under way to the next host-agent."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _done(self, agent_id: str, _task: asyncio.Task[None]) -> None:
        self._tasks.pop(agent_id, None)

    async def _reset(self, resident: Resident) -> None:
        resident.hold(HOLD)
        try:
            await self._carry_out(resident)
        except FleetError as error:
            # It is in the journal as far as it came, and taken up again with the next round.
            log.warning("a reset broke off", agent=resident.seat.agent_id, what=error.what, why=error.why)
        finally:
            if resident.renew is None:
                resident.release(HOLD)

    async def _carry_out(self, resident: Resident) -> None:
        session, manifest = resident.session, resident.manifest
        if session is None or manifest is None:
            return
        reset = await self._current(resident, session)
        if reset is None:
            return
        if reset.step is ResetStep.UNPROVEN:
            self._give_up(resident, reset.detail)
            return
        command = reset_command(manifest, resident.seat.reset_way)
        if why := needs_restart(resident.seat, session, manifest):
            await self._restart(resident, session, why)
        elif command is not None:
            ledger = _JournalLedger(self._journal, resident.seat.agent_id)
            try:
                await self._by_command(resident, session, manifest, command, reset, ledger)
            except Unproven as unproven:
                await self._journal.set_reset_step(resident.seat.agent_id, ResetStep.UNPROVEN, str(unproven))
                self._give_up(resident, str(unproven))

    async def _current(self, resident: Resident, session: Session) -> Reset | None:
        """Return the reset of the seat's living run; None when there is none any more."""
        agent_id = resident.seat.agent_id
        known = await self._journal.reset_of(agent_id)
        if known is not None and known.run_id != session.run_id:
            known = None  # that run is over, and the one that lives began empty
        if known is None and not resident.reset_is_due:
            self._journalled.discard(agent_id)
            return None
        if known is not None and known.wanted >= resident.seat.reset:
            return known
        wanted = Reset(agent_id, session.run_id, str(new_id()), wanted=resident.seat.reset, cause=ASKED)
        self._journalled.add(agent_id)
        return await self._journal.want_reset(wanted)

    async def _by_command(
        self,
        resident: Resident,
        session: Session,
        manifest: Manifest,
        command: str,
        reset: Reset,
        ledger: _JournalLedger,
    ) -> None:
        """Enter the reset command once the seat is available, or go on where the last host-agent came to."""
        delay = _LOOK_FIRST
        while (pane := _pane_of(resident, session)) is not None:
            changed = resident.changed
            try:
                if reset.step in (ResetStep.TYPING, ResetStep.ENTERING):
                    entered = reset.step is ResetStep.ENTERING
                    evidence = await finish_command(pane, manifest, command, entered=entered, ledger=ledger)
                    if evidence is not None:
                        await self._finish(resident, session, evidence)
                        return
                elif is_calm(resident):
                    if (own := self._sessions.of_run(session.run_id)) is not None:
                        refresh_seed(resident.seat, manifest, own)
                    name = f"mosaic-reset-{reset.next_run_id}"
                    evidence = await enter_command(pane, manifest, command, name=name, ledger=ledger)
                    await self._finish(resident, session, evidence)
                    return
            except (NotNow, TerminalLost) as error:
                log.debug("a reset waits", agent=resident.seat.agent_id, why=str(error))
            if (now := await self._journal.reset_of(resident.seat.agent_id)) is None:
                return
            reset = now
            await wait_at_most(changed, delay)
            delay = min(delay * 2, _LOOK_LAST)

    async def _finish(self, resident: Resident, session: Session, evidence: str) -> None:
        reset = await self._journal.reset_of(resident.seat.agent_id)
        if reset is None or _pane_of(resident, session) is None:
            return
        reached("hostagent.reset-proven")
        self._sessions.carry_on(session.run_id, reset.next_run_id)
        session = replace(session, run_id=reset.next_run_id, reset=max(reset.wanted, session.reset))
        await self._pool.get(session.server).mark_reset(session)
        reached("hostagent.reset-marked")
        self._journalled.discard(resident.seat.agent_id)
        self._settle(resident, reset.wanted, "")
        await self._keeper.carry_on(resident, session)
        log.info("a seat was reset", agent=resident.seat.agent_id, cause=reset.cause, evidence=evidence)

    async def _restart(self, resident: Resident, session: Session, why: str) -> None:
        while resident.seat.reset_way != RESTART and not is_calm(resident):
            if _pane_of(resident, session) is None:
                return
            await wait_at_most(resident.changed, _LOOK_LAST)
        if _pane_of(resident, session) is not None:
            log.info("a seat is reset by a restart", agent=resident.seat.agent_id, why=why)
            self._journalled.discard(resident.seat.agent_id)
            resident.renew = (session.run_id, reconcile.RESET)
            self._wake()

    def _give_up(self, resident: Resident, why: str) -> None:
        self._journalled.discard(resident.seat.agent_id)
        log.warning("a reset is not proven", agent=resident.seat.agent_id, why=why)
        self._settle(resident, resident.seat.reset, f"the reset is not proven: {why}; mosaic agent reset --force")
        self._keeper.on_change(resident)

    def _settle(self, resident: Resident, wanted: int, problem: str) -> None:
        resident.reset_tried = max(resident.reset_tried, wanted)
        resident.reset_problem = problem
        if not resident.reset_is_due:
            resident.acted = resident.seat.generation


def reset_command(manifest: Manifest, way: str) -> str | None:
    """Return what is typed to reset a program in the way asked for; None where it has no such command."""
    match way:
        case "clear":
            return manifest.reset.clear
        case "new":
            return manifest.reset.new
        case _:
            return manifest.reset_command


def needs_restart(seat: Seat, session: Session, manifest: Manifest) -> str:
    """Return why this reset is a restart, or "" when the runtime's own command does it (pure)."""
    if seat.reset_way == RESTART:
        return "it was asked for by force"
    if session.launch_digest != seat.launch_digest:
        return "it runs as an earlier roster had it"
    if reset_command(manifest, seat.reset_way) is None:
        return "its runtime has no such command"
    if manifest.system_prompt is not None and not manifest.reset.keeps_seed:
        return "its runtime forgets what it was seeded with"
    return ""


class _JournalLedger:
    """Writes into the journal how far a command is."""

    def __init__(self, journal: Journal, agent_id: str) -> None:
        self._journal = journal
        self._agent_id = agent_id

    async def typing(self) -> None:
        await self._journal.set_reset_step(self._agent_id, ResetStep.TYPING)

    async def untyped(self) -> None:
        await self._journal.set_reset_step(self._agent_id, ResetStep.WANTED)

    async def entering(self) -> None:
        await self._journal.set_reset_step(self._agent_id, ResetStep.ENTERING)


def _pane_of(resident: Resident, session: Session) -> Pane | None:
    """Return the pane while the seat is still in the run that is to be reset, and nobody ends it."""
    return resident.pane if resident.run_id == session.run_id and not resident.ending else None


def is_calm(resident: Resident) -> bool:
    """Say whether the seat is available, and was for long enough to be sure that no turn has just begun."""
    if resident.state.state is not AgentState.AVAILABLE:
        return False
    now = time.monotonic()
    return now - resident.wrote >= CALM_SECONDS or now - resident.since >= LONG_CALM_SECONDS
