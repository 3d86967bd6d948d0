"""Makes what runs on this host what is wanted, round by round, with whoever supervises the seats."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Mapping, Set

import structlog
from mosaic_framework.errors import FleetError

from mosaic_hostagent import reconcile
from mosaic_hostagent.backoff import Crashes, held_back
from mosaic_hostagent.desired import Desired
from mosaic_hostagent.journal import Journal
from mosaic_hostagent.keeper import SeatKeeper
from mosaic_hostagent.readiness import NOT_RUNNING, UNSEEN
from mosaic_hostagent.reconcile import SeatPlan
from mosaic_hostagent.residents import Resident
from mosaic_hostagent.seats import ServerKey, Session
from mosaic_hostagent.terminal.panes import Observed, Unmanaged
from mosaic_hostagent.terminal.pool import ServerPool
from mosaic_hostagent.units.supervision import Supervision
from mosaic_hostagent.waiting import wait_at_most

NET_SECONDS = 5.0
RETRY_SECONDS = 15.0

log = structlog.get_logger(__name__)


class Supervisor:
    """The seats of this host. `on_applied` is told each generation when every seat of it was brought about or tried."""

    def __init__(
        self,
        *,
        keeper: SeatKeeper,
        journal: Journal,
        pool: ServerPool,
        supervision: Supervision,
        on_applied: Callable[[int], None],
    ) -> None:
        self.residents: dict[str, Resident] = {}
        self.applied = 0
        self.on_unmanaged: Callable[[list[Unmanaged]], None] = lambda _sessions: None
        """told, round by round, of the sessions on our servers that are not ours"""
        self.on_round: Callable[[], None] = lambda: None
        """called when a round has looked at every seat"""
        self._keeper = keeper
        self._journal = journal
        self._pool = pool
        self._supervision = supervision
        self._on_applied = on_applied
        self._wanted: Desired | None = None
        self._wake = asyncio.Event()
        self._runs_checked = False
        keeper.on_ended = self._wake.set
        if supervision.restarts:
            pool.on_sessions_changed = self._wake.set

    @property
    def generation(self) -> int:
        """The newest generation that was wanted; -1 before the first."""
        return self._wanted.generation if self._wanted is not None else -1

    def look(self) -> None:
        """Begin a round now."""
        self._wake.set()

    def want(self, desired: Desired) -> None:
        """Take a new desired state. Seats that changed are tried at once, whatever they had to wait for."""
        for agent_id, seat in desired.seats.items():
            resident = self.residents.get(agent_id)
            if resident is None:
                self.residents[agent_id] = Resident(seat)
                continue
            if seat.generation != resident.seat.generation:
                resident.not_before, resident.crashes, resident.refusals = 0.0, Crashes(), 0
            resident.seat = seat
        for agent_id in self.residents.keys() - desired.seats.keys():
            self._keeper.dismiss(self.residents.pop(agent_id))
        self._wanted = desired
        self._wake.set()

    async def run(self) -> None:
        """Reconcile until cancelled: when something changed, when a back-off is over, and every 5 s as a net."""
        while True:
            self._wake.clear()
            if self._wanted is not None:
                try:
                    await self._round(self._wanted)
                except FleetError as error:
                    log.error("a round of reconciling broke off", what=error.what, why=error.why)
            await wait_at_most(self._wake, self._seconds_to_next_round())

    def _seconds_to_next_round(self) -> float:
        now = time.monotonic()
        due = [one.not_before - now for one in self.residents.values() if one.seat.running and not one.alive]
        return min([wait for wait in due if wait > 0] + [NET_SECONDS])

    async def _round(self, wanted: Desired) -> None:
        observed, unmanaged, failed = await self._observe()
        if not failed:
            self.on_unmanaged(unmanaged)
        elif not self._runs_checked:
            await self._take_for_unseen(failed)
        for resident in self.residents.values():
            error = failed.get(resident.seat.server) or failed.get(_server_of(resident))
            # One that is to end, and cannot be ended, is not as wanted either.
            if error is not None and (resident.seat.running or resident.alive or resident.state == UNSEEN):
                self._refuse(resident, error)
        # One that was moved, and may live where nobody can look, is not started anywhere else.
        seats = {
            key: one.seat
            for key, one in self.residents.items()
            if one.seat.server not in failed and _server_of(one) not in failed
        }
        if not self._runs_checked:
            self._tell_of_absent(seats.keys() - {one.agent_id for one in observed})
        # As of now: one that is not wanted any more when this round ends is seen by the next, and ended by its plan.
        kept = {key for key, one in self.residents.items() if one.seat.running} | {one.agent_id for one in observed}
        awaited = await self._awaited(observed)
        plans = reconcile.plan(
            seats,
            # What sits on a server that cannot be seen whole is left alone until it can.
            [one for one in observed if one.agent_id in seats or one.agent_id not in self.residents],
            not_before={
                key: math.inf if key in awaited or self._keeper.buries(one.run_id) else one.not_before
                for key, one in self.residents.items()
            },
            now=time.monotonic(),
            renew={key: one.renew for key, one in self.residents.items() if one.renew is not None},
        )
        await asyncio.gather(*(self._carry_out(one) for one in plans))
        if not failed:
            await self._keep_only(kept)
        if any(one.stops for one in plans):
            self._wake.set()  # what they leave behind is seen in the next round, which need not wait
        if not failed and not self._runs_checked:
            await self._end_vanished_runs(observed)
            self._runs_checked = True
        await self._leave_servers({one.server for one in observed}, failed)
        self.on_round()
        if wanted.generation > self.applied:
            self.applied = wanted.generation
            self._on_applied(wanted.generation)

    def _tell_of_absent(self, agent_ids: Set[str]) -> None:
        """Tell that these do not run, which the register may believe of them still: their start can take a while."""
        for agent_id in agent_ids:
            resident = self.residents[agent_id]
            if resident.state == UNSEEN:
                resident.enter(NOT_RUNNING)
            elif resident.looked_for:
                continue
            self._keeper.tell(resident)

    async def _take_for_unseen(self, failed: Mapping[ServerKey, FleetError]) -> None:
        """Say of seats that may well run, where nobody can look, no more than that; their problem is told with it."""
        runs = {run.agent_id: run.run_id for run in await self._journal.open_runs()}
        for agent_id, resident in self.residents.items():
            if resident.seat.server not in failed or resident.looked_for:
                continue
            if agent_id in runs:
                resident.unseen_run = runs[agent_id]
                resident.enter(UNSEEN)
            elif not resident.seat.running:  # its run has ended, which the register may not have heard
                self._keeper.tell(resident)

    async def _keep_only(self, kept: set[str]) -> None:
        """Let go of seats that are neither wanted nor seen. One that is seen is ended by its plan, which says why."""
        try:
            await self._supervision.keep_only(kept)
        except FleetError as error:
            log.warning("a seat is supervised that is not wanted any more", what=error.what, why=error.why)

    async def _awaited(self, observed: list[Session]) -> frozenset[str]:
        """Return the seats that nobody need start: their supervisor is about to, after a crash or a boot."""
        if not self._supervision.restarts:
            return frozenset()
        alive = {one.agent_id for one in observed if one.alive}
        missing = [key for key, one in self.residents.items() if one.seat.running and key not in alive]
        if not missing:
            return frozenset()
        # The end of a run that nobody here has seen is taken note of first: its supervisor may not have seen it either.
        runs = {key: one.run_id for key, one in self.residents.items()}
        unseen = {one.agent_id for one in observed if not one.alive and one.run_id > runs.get(one.agent_id, "")}
        return await self._supervision.awaited(missing) | unseen

    async def _observe(self) -> tuple[list[Session], list[Unmanaged], dict[ServerKey, FleetError]]:
        needed = {one.seat.server for one in self.residents.values() if one.seat.running}
        keys = list(needed | set(self._pool.recorded))
        results = await asyncio.gather(*(self._observe_one(key, start=key in needed) for key in keys))
        observed: list[Session] = []
        unmanaged: list[Unmanaged] = []
        failed: dict[ServerKey, FleetError] = {}
        for key, result in zip(keys, results, strict=True):
            if isinstance(result, FleetError):
                failed[key] = result
            else:
                observed += result.sessions
                unmanaged += result.unmanaged
        return observed, unmanaged, failed

    async def _observe_one(self, key: ServerKey, *, start: bool) -> Observed | FleetError:
        try:
            return await self._pool.observe(key, start=start)
        except FleetError as error:
            return error

    async def _leave_servers(self, busy: set[ServerKey], failed: Mapping[ServerKey, FleetError]) -> None:
        """End our holder on servers that no seat of the roster names and no session of ours is on."""
        named = {one.seat.server for one in self.residents.values()}
        for key in self._pool.recorded:
            if key not in named and key not in busy and key not in failed:
                log.info("a tmux server is not used any more", server=key.socket_name)
                await self._pool.leave(key)

    async def _carry_out(self, one: SeatPlan) -> None:
        try:
            await self._keeper.carry_out(one, self.residents.get(one.agent_id))
        except FleetError as error:
            # It is the seat's problem, told to whoever looks at it, and not the end of the others.
            if (resident := self.residents.get(one.agent_id)) is not None:
                self._refuse(resident, error)
            else:
                log.warning("a removed seat could not be ended", agent=one.agent_id, what=error.what, why=error.why)

    async def _end_vanished_runs(self, observed: list[Session]) -> None:
        """End the runs that the journal has open and tmux has not: they went while no host-agent looked."""
        here = {one.run_id for one in observed} | {one.run_id for one in self.residents.values()}
        for run in await self._journal.open_runs():
            if run.run_id not in here:
                log.info("a run vanished while no host-agent looked", agent=run.agent_id, run=run.run_id)
                await self._journal.run_ended(run.run_id, reason=reconcile.VANISHED)
                await self._journal.forget_leftovers(run.agent_id)

    def _refuse(self, resident: Resident, error: FleetError) -> None:
        """Tell why the seat is not as wanted, and hold it back for a while, longer each time."""
        problem = _in_one_line(error)
        if (now := time.monotonic()) >= resident.not_before:
            resident.refusals += 1
            resident.not_before = now + held_back(resident.refusals, longest=RETRY_SECONDS)
        if (resident.problem, resident.acted) != (problem, resident.seat.generation):
            log.warning("a seat is not as wanted", agent=resident.seat.agent_id, name=resident.seat.name, why=problem)
            resident.problem, resident.acted = problem, resident.seat.generation
            if not resident.alive and resident.state != UNSEEN:
                resident.enter(NOT_RUNNING)
            self._keeper.on_change(resident)


def _in_one_line(error: FleetError) -> str:
    text = f"{error.what}: {error.why}" if error.why else error.what
    return f"{text}; {error.next_step}" if error.next_step else text


def _server_of(resident: Resident) -> ServerKey:
    """Return the server that its program runs in, which is not yet the seat's when that was moved."""
    return resident.session.server if resident.alive and resident.session is not None else resident.seat.server
