"""Relaunching the seats of a runtime after its update: one first, and the others only when that one came up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

from mosaic_hostagent import reconcile
from mosaic_hostagent.journal_updates import DONE, FAILED, Seen, Update
from mosaic_hostagent.readiness import AgentState
from mosaic_hostagent.residents import Resident
from mosaic_hostagent.waiting import wait_at_most

GRACE_SECONDS = 30.0
"""On top of what the manifest gives the program to be ready: a host that relaunches many is slow."""
_UP = (AgentState.AVAILABLE, AgentState.WORKING)


class Tell(Protocol):
    """Notes and tells how far an update is."""

    def __call__(self, update: Update, **changes: Any) -> Awaitable[Update]: ...


class Relaunching:
    """Brings the runs that an update replaces to their end, and their seats up again."""

    def __init__(self, residents: Mapping[str, Resident], wake: Callable[[], None], ready_within: float) -> None:
        self._residents = residents
        self._wake = wake
        self._seconds = ready_within + GRACE_SECONDS

    async def carry_out(self, update: Update, tell: Tell) -> Update:
        """Relaunch every seat of `update.runs` whose run is still the one before, and say how each came through."""
        seats = [one for agent_id in update.runs if (one := self._residents.get(agent_id)) is not None]
        seats.sort(key=lambda one: one.seat.name)
        seen: list[Seen] = []
        for group in (seats[:1], seats[1:]):
            seen += await asyncio.gather(*(self._relaunch(one, update.runs[one.seat.agent_id]) for one in group))
            update = await tell(update, seats=tuple(seen))
            if not all(one.well for one in seen):
                return await tell(update, state=FAILED, problem=_problem(seen, left=len(seats) - len(seen)))
        return await tell(update, state=DONE)

    async def _relaunch(self, resident: Resident, run_id: str) -> Seen:
        name = resident.seat.name
        if resident.alive and resident.run_id == run_id:
            resident.renew = (run_id, reconcile.RESTARTED)
            self._wake()
        deadline = time.monotonic() + self._seconds
        while time.monotonic() < deadline:
            changed = resident.changed
            if not resident.seat.running or self._residents.get(resident.seat.agent_id) is not resident:
                return Seen(name, well=True, detail="it is not wanted any more")
            if resident.run_id > run_id:
                if resident.alive and resident.state.state in _UP:
                    return Seen(name, well=True, detail=f"relaunched, {resident.state.state}")
                if resident.alive and resident.state.state is AgentState.WAITING:
                    return Seen(name, well=False, detail=f"relaunched, and waits for a person: {resident.state.detail}")
                if not resident.alive and resident.state.state is AgentState.EXITED:
                    return Seen(name, well=False, detail=f"it ended at once: {resident.state.detail}")
            elif resident.problem:
                return Seen(name, well=False, detail=resident.problem)
            await wait_at_most(changed, min(1.0, max(0.0, deadline - time.monotonic())))
        return Seen(name, well=False, detail=f"not up within {self._seconds:g} s: {resident.state.detail}")


def _problem(seen: Sequence[Seen], *, left: int) -> str:
    short = [one for one in seen if not one.well]
    first = f"{short[0].name}: {short[0].detail}"
    more = f" (and {len(short) - 1} more)" if len(short) > 1 else ""
    rest = f"; {left} other seat{'s' if left != 1 else ''} run on as before" if left else ""
    return f"{first}{more}{rest}"
