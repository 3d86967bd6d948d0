"""Starts, stops and adopts what sits in the seats, and sees at once when a program ends by itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import structlog
from mosaic_framework.errors import FleetError
from mosaic_framework.manifest import Manifest

from mosaic_hostagent import reconcile
from mosaic_hostagent.journal import Journal
from mosaic_hostagent.journal_facts import Incoming
from mosaic_hostagent.launching import prepare, read_manifest
from mosaic_hostagent.processes import ExitWatch, end_terminal_session, terminal_session
from mosaic_hostagent.readiness import NOT_RUNNING, AgentState, State, exited
from mosaic_hostagent.reconcile import Keep, Rest, SeatPlan, Start, Stop
from mosaic_hostagent.residents import Resident
from mosaic_hostagent.running import NOTHING
from mosaic_hostagent.seats import Seat, Session, began_ms
from mosaic_hostagent.sessions import Sessions
from mosaic_hostagent.terminal.pane import Pane
from mosaic_hostagent.terminal.pool import ServerPool
from mosaic_hostagent.terminal.server import Launch
from mosaic_hostagent.units.supervision import Supervision

_DELIVERY_GRACE = 2.0
_STARTS_AT_ONCE = 16
_STATUS_SECONDS = 0.5
_REAP_AFTER = 0.015
_LAUNCHED = State(AgentState.STARTING, "process", "launched, and not ready yet")
_ADOPTED = State(AgentState.UNKNOWN, "process", "alive, and not looked at yet")

log = structlog.get_logger(__name__)


class SeatKeeper:
    """Acts on one seat at a time. `on_change`: its report is new. `on_ended`: a program ended by itself.

    `on_occupied`: a run began, or was adopted.
    """

    def __init__(
        self,
        *,
        journal: Journal,
        pool: ServerPool,
        supervision: Supervision,
        state_folder: Path,
        environment: Mapping[str, str],
        on_change: Callable[[Resident], None],
        stop_grace: float,
        sessions: Sessions,
    ) -> None:
        self.on_change = on_change
        self.on_ended: Callable[[], None] = lambda: None
        self.on_occupied: Callable[[Resident], None] = lambda _resident: None
        self.first_message: Callable[[Seat, str], Incoming | None] = lambda _seat, _run_id: None
        """what a seat is told when a run of it begins"""
        self.on_first_message: Callable[[Incoming], None] = lambda _message: None
        """told of each one that is in the journal and to be delivered"""
        self._journal = journal
        self._pool = pool
        self._supervision = supervision
        self._state_folder = state_folder
        self._environment = environment
        self._stop_grace = stop_grace
        self._sessions = sessions
        self._preparing = asyncio.Lock()
        self._starting = asyncio.Semaphore(_STARTS_AT_ONCE)
        self._burials: dict[str, asyncio.Task[None]] = {}

    def tell(self, resident: Resident) -> None:
        """Report how a seat is."""
        resident.standing = self._supervision.standing(resident.seat.agent_id, resident.seat.name)
        self.on_change(resident)

    async def carry_out(self, plan: SeatPlan, resident: Resident | None) -> None:
        """Do what one seat needs; `resident` is None for a seat that is wanted no more. Raises FleetError."""
        if resident is not None and _is_behind(plan, resident):
            return  # it was made from a look before a reset gave the session another run
        for stop in plan.stops:
            await self._stop(stop, resident)
        if resident is None:
            return
        match plan.then:
            case Start(seat):
                await self._start(resident, seat)
            case Keep(seat, session):
                await self._keep(resident, seat, session)
            case Rest(seat):
                self._rest(resident, seat)

    def buries(self, run_id: str) -> bool:
        """Whether this run has ended, and how is not known yet: nothing is to be begun in its place until it is."""
        return run_id in self._burials

    def dismiss(self, resident: Resident) -> None:
        """Its seat was removed: nobody waits for it any more. Its session is stopped by the next plan."""
        resident.ending = reconcile.REMOVED
        self._unwatch(resident)
        resident.stir()

    async def carry_on(self, resident: Resident, session: Session) -> None:
        """A reset is done: the same program goes on as another run, which ends the one before in the journal."""
        self._unwatch(resident)
        resident.session = session
        resident.watch = ExitWatch(session.pid, lambda: self._ended(resident, session))
        await self._begin(resident.seat, session.run_id, model=session.model)
        await self._journal.forget_leftovers(session.agent_id)
        log.info("seat reset", agent=session.agent_id, session=session.name, run=session.run_id)
        resident.stir()
        self.on_change(resident)

    async def close(self, residents: list[Resident]) -> None:
        """Stop watching. Sessions go on."""
        for resident in residents:
            self._unwatch(resident)
        burials = list(self._burials.values())
        for burial in burials:
            burial.cancel()
        await asyncio.gather(*burials, return_exceptions=True)

    async def _begin(self, seat: Seat, run_id: str, *, model: str) -> None:
        """Write that a run begins, with what it is told first."""
        message = self.first_message(seat, run_id)
        taken = await self._journal.run_started(
            run_id, seat.agent_id, model=model, account=seat.spec.account, first=message
        )
        if taken is not None:
            self.on_first_message(taken)

    async def _stop(self, stop: Stop, resident: Resident | None) -> None:
        session = stop.session
        if resident is not None and resident.run_id != session.run_id:
            resident = None
        if resident is not None:
            resident.ending = stop.reason
            await _let_delivery_finish(resident)
            self._unwatch(resident)
        log.info("seat stops", agent=session.agent_id, session=session.name, run=session.run_id, reason=stop.reason)
        members = terminal_session(session.pid, began_ms=session.began_ms)
        if stop.reason == reconcile.EXITED:
            # What an ended program left in the background was meant to outlive it; the program itself must be gone,
            # also one that closed its terminal and lives on.
            members = [process for process in members if process.pid == session.pid]
        for_good = stop.reason in (reconcile.STOPPED, reconcile.REMOVED)
        await self._supervision.let_go(session.agent_id, for_good=for_good)
        await self._pool.get(session.server).kill(session)
        await end_terminal_session(members, grace=self._stop_grace)
        await self._journal.run_ended(session.run_id, reason=stop.reason, exit_status=session.exit_status)
        await self._journal.forget_leftovers(session.agent_id)
        if resident is not None:
            self._forget_prepared(resident)
            resident.session = resident.pane = None
            resident.ending = resident.note = resident.command = ""

    async def _start(self, resident: Resident, seat: Seat) -> None:
        if resident.alive and resident.session is not None:
            await self._end_sessionless(resident, resident.session)
            return
        async with self._starting:  # a run's id says when it began: it is made when its turn has come
            await self._launch(resident, seat)

    async def _launch(self, resident: Resident, seat: Seat) -> None:
        manifest = read_manifest(seat)
        launch = await self._prepare(seat, manifest)
        # First the journal: a run that is in tmux and that the register never hears of cannot be.
        await self._begin(seat, launch.run_id, model=seat.spec.model)
        try:
            session = await self._supervision.start(launch, seat.server)
        except FleetError:
            await self._journal.run_ended(launch.run_id, reason=reconcile.EXITED)
            raise
        log.info("seat started", agent=seat.agent_id, session=session.name, run=session.run_id, pid=session.pid)
        resident.acted = seat.generation
        resident.manifest = manifest
        resident.was_ready = False
        self._occupy(resident, session, _LAUNCHED)

    async def _prepare(self, seat: Seat, manifest: Manifest) -> Launch:
        # It waits for the disk: not on the event loop, which must tell of deaths meanwhile. One at a time,
        # since some of the files are the user's own.
        async with self._preparing:
            return await asyncio.to_thread(
                prepare,
                seat,
                manifest,
                state_folder=self._state_folder,
                environment=self._environment,
                sessions=self._sessions,
            )

    async def _prepare_next(self, resident: Resident, manifest: Manifest) -> Launch:
        """Prepare a run that begins when this one has ended, in place of one that never began."""
        launch = await self._prepare(resident.seat, manifest)
        self._forget_prepared(resident)
        resident.prepared = launch.run_id
        return launch

    def _forget_prepared(self, resident: Resident) -> None:
        if resident.prepared != resident.run_id:
            self._sessions.end(resident.prepared)
        resident.prepared = ""

    async def _end_sessionless(self, resident: Resident, session: Session) -> None:
        """Somebody ended the seat's session, and its program lives on without a terminal: it must not run twice."""
        log.warning("a seat's session is gone and its program is not", agent=session.agent_id, pid=session.pid)
        await end_terminal_session(terminal_session(session.pid, began_ms=session.began_ms), grace=self._stop_grace)
        self._ended(resident, session)

    async def _keep(self, resident: Resident, seat: Seat, session: Session) -> None:
        known = resident.run_id == session.run_id
        if session.alive and not known:
            resident.manifest = read_manifest(seat)
            await self._begin(seat, session.run_id, model=session.model)
            log.info("seat adopted", agent=seat.agent_id, session=session.name, run=session.run_id, pid=session.pid)
            resident.was_ready = True  # it was running before this process was: it is past its start
            self._sessions.take_up(session.run_id)
            self._occupy(resident, session, _ADOPTED)
        elif not session.alive and not known:
            await self._bury_unseen(resident, session)
        elif not session.alive and resident.alive:
            self._ended(resident, session)
            return
        if session.alive and not self._supervision.keeps(seat.agent_id):
            launch = await self._prepare_next(resident, read_manifest(seat))
            await self._supervision.adopt(launch, seat.server)
        elif session.alive and session.launch_digest != seat.launch_digest != resident.prepared_for:
            resident.prepared_for = seat.launch_digest
            await self._renew(resident)  # for a boot, or a crash that nobody here sees; what runs goes on
        note = _note_of_living(resident, session) if session.alive else resident.note
        standing = self._supervision.standing(seat.agent_id, seat.name)
        acted = resident.acted if resident.reset_is_due else seat.generation
        told = (resident.note, resident.problem, resident.acted, resident.standing)
        if not known or told != (note, "", acted, standing):
            resident.note, resident.problem, resident.acted = note, "", acted
            self.tell(resident)

    def _rest(self, resident: Resident, seat: Seat) -> None:
        if resident.alive and resident.session is not None:
            self._ended(resident, resident.session)  # its session is gone
            return
        changed = resident.acted != seat.generation
        changed |= resident.standing != self._supervision.standing(seat.agent_id, seat.name)
        resident.acted = seat.generation
        if not seat.running:
            changed |= bool(resident.problem or resident.note)
            resident.problem = resident.note = ""
            changed |= resident.enter(NOT_RUNNING)
        if changed:
            self.tell(resident)

    def _occupy(self, resident: Resident, session: Session, state: State) -> None:
        self._unwatch(resident)
        resident.session, resident.exit_status, resident.refusals = session, None, 0
        resident.pane = Pane(
            self._pool.get(session.server),
            session.pane_id,
            session.agent_id,
            session.pid,
            driving=resident.driving,
        )
        resident.speaks = False
        resident.launched = resident.wrote = resident.since = time.monotonic()
        resident.mark = resident.ending = resident.note = resident.problem = ""
        pane_session = self._sessions.of_run(session.run_id)
        resident.forget(pane_session.heartbeat_file if pane_session is not None else None)
        resident.began_ms = began_ms(pane_session.runs[0] if pane_session is not None else session.run_id)
        resident.letterbox = pane_session.letterbox if pane_session is not None else None
        resident.runs = NOTHING
        resident.renew, resident.reset_problem = None, ""
        resident.watch = ExitWatch(session.pid, lambda: self._ended(resident, session))
        resident.enter(state)
        resident.stir()
        self.tell(resident)
        self.on_occupied(resident)

    def _unwatch(self, resident: Resident) -> None:
        if resident.watch is not None:
            resident.watch.close()
            resident.watch = None

    def _ended(self, resident: Resident, session: Session) -> None:
        """A seat's program is no more, and we did not end it."""
        if resident.ending or not resident.alive or resident.run_id != session.run_id:
            return
        resident.pane = None
        resident.stir()
        self._unwatch(resident)
        burial = asyncio.create_task(self._bury(resident, session), name=f"burial-{session.name}")
        self._burials[session.run_id] = burial

    async def _bury(self, resident: Resident, session: Session) -> None:
        try:
            await self._take_down(resident, session)
        finally:
            del self._burials[session.run_id]
        self.on_ended()

    async def _take_down(self, resident: Resident, session: Session) -> None:
        """Take note of how a run ended, and of how long the next one waits for that."""
        lasted = time.monotonic() - resident.launched
        status, there = await self._exit_status(session)
        log.info("seat ended", agent=session.agent_id, run=session.run_id, exit_status=status, lasted=round(lasted, 1))
        if resident.run_id == session.run_id and not resident.alive:
            resident.crashes = resident.crashes.after_run(lasted)
            resident.exit_status, resident.command = status, ""
            if not resident.seat.on_demand:
                resident.not_before = time.monotonic() + resident.crashes.delay
                resident.note = _note_of_ended(resident)
            resident.enter(exited(status))
            self.tell(resident)
        reason = reconcile.EXITED if there else reconcile.VANISHED
        try:
            await self._journal.run_ended(session.run_id, reason=reason, exit_status=status)
            await self._journal.forget_leftovers(session.agent_id)
        except FleetError as error:
            # The run stays open in the journal, and ends there with the next launch or start of this host-agent.
            log.error("the end of a run could not be written down", run=session.run_id, why=error.why)
        await self._renew(resident)

    async def _bury_unseen(self, resident: Resident, session: Session) -> None:
        """A run that ended before anybody here saw it: too short, or while no host-agent looked."""
        seat = resident.seat
        await self._journal.run_started(session.run_id, seat.agent_id, model=seat.spec.model, account=seat.spec.account)
        status, _ = await self._exit_status(session)
        resident.session, resident.exit_status = session, status
        await self._journal.run_ended(session.run_id, reason=reconcile.EXITED, exit_status=status)
        if self._supervision.restarts and not seat.on_demand:
            resident.crashes = resident.crashes.after_run(max(0.0, time.time() - session.began_ms / 1000))
            resident.not_before = time.monotonic() + resident.crashes.delay
            resident.note = _note_of_ended(resident)
            await self._renew(resident)
        resident.enter(exited(status))

    async def _renew(self, resident: Resident) -> None:
        """Let a seat that is started again by itself start as it is wanted now, or not at all when it cannot."""
        seat = resident.seat
        if not self._supervision.restarts or not seat.running or seat.on_demand or resident.ending:
            return
        try:
            launch = await self._prepare_next(resident, read_manifest(seat))
            await self._supervision.renew(launch, seat.server)
        except FleetError as error:
            log.warning("a seat's next start cannot be prepared", agent=seat.agent_id, what=error.what, why=error.why)
            if not resident.alive:  # the next round tries to start it, and tells what is wrong with it
                await self._supervision.let_go(seat.agent_id, for_good=False)

    async def _exit_status(self, session: Session) -> tuple[int | None, bool]:
        """Ask tmux, which reaps the program, how it ended: (status, whether the session is still there)."""
        deadline, delay = time.monotonic() + _STATUS_SECONDS, 0.005
        server = self._pool.get(session.server)
        while True:
            try:
                found = await server.observe_one(session) if server.connected else None
            except FleetError:
                return None, False
            if found is None:
                return None, False
            if found.exit_status is not None or time.monotonic() > deadline:
                return found.exit_status, True
            await asyncio.sleep(delay)  # the kernel told us before tmux has reaped it
            delay *= 2
            if delay > _REAP_AFTER:
                await server.reap()


def _is_behind(plan: SeatPlan, resident: Resident) -> bool:
    """Say whether a plan speaks of the resident's own session under a run that it no longer is."""
    ours = resident.session
    seen = [stop.session for stop in plan.stops] + ([plan.then.session] if isinstance(plan.then, Keep) else [])
    return ours is not None and any(
        (one.server, one.session_id, one.pid) == (ours.server, ours.session_id, ours.pid) and one.run_id < ours.run_id
        for one in seen
    )


async def _let_delivery_finish(resident: Resident) -> None:
    if resident.pane is None:
        return
    try:
        async with asyncio.timeout(_DELIVERY_GRACE), resident.pane.lock:
            return
    except TimeoutError:
        log.warning("a seat is stopped in the middle of a delivery", agent=resident.seat.agent_id)


def _note_of_living(resident: Resident, session: Session) -> str:
    if session.launch_digest != resident.seat.launch_digest:
        return f"it runs as an earlier roster had it; mosaic fleet restart {resident.seat.name} takes up the change"
    young = time.monotonic() - resident.launched < resident.crashes.long_enough
    if resident.crashes.looping and young:
        return f"crash loop: it has ended {resident.crashes.count} times in a row, soon after its start"
    return ""


def _note_of_ended(resident: Resident) -> str:
    crashes, status = resident.crashes, resident.exit_status
    ended = f"it ended with exit status {status}" if status is not None else "it ended"
    if crashes.looping:
        return f"crash loop: {ended}, {crashes.count} times in a row; the next try is in {crashes.delay:.0f} s"
    return f"{ended}; it is started again in {crashes.delay:.0f} s"
