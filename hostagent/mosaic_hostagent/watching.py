"""Keeps the states of living seats true: looks at a screen that moved or told of something, judges as time passes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping

import structlog
from mosaic_framework.errors import FleetError

from mosaic_hostagent.processes import has_terminal
from mosaic_hostagent.readiness import SETTLED_SECONDS, AgentState, Signals, Verdict, judge
from mosaic_hostagent.residents import Resident
from mosaic_hostagent.running import what_runs
from mosaic_hostagent.screen_facts import ScreenFacts
from mosaic_hostagent.seats import ServerKey
from mosaic_hostagent.terminal.pool import ServerPool
from mosaic_hostagent.terminal.screen import look
from mosaic_hostagent.waiting import wait_at_most

SECONDS = 1.0
_SOONEST = 0.05
_YOUNG = 15.0
# tmux dates output to the second, so a screen that moved lately may move again under the same mark.
_STILL_MOVING = SETTLED_SECONDS + 2.0

log = structlog.get_logger(__name__)


class Watching:
    """Judges living seats. `on_change` is told of each whose report is new; `before` is awaited ahead of each round."""

    def __init__(
        self,
        residents: Mapping[str, Resident],
        pool: ServerPool,
        on_change: Callable[[Resident], None],
        before: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._residents = residents
        self._pool = pool
        self._on_change = on_change
        self._before = before
        self._poked: set[str] = set()
        self._wake = asyncio.Event()

    async def run(self) -> None:
        """Look until cancelled: every second, more often while a seat starts, and at once where a signal came."""
        next_round = 0.0
        while True:
            if time.monotonic() >= next_round:
                if self._before is not None:
                    await self._before()
                await self.look()
                # tmux tells only a session's own clients of its output: a clock has to wake whoever would see it.
                next_round = time.monotonic() + self._interval()
            await self._look_at_poked()
            await wait_at_most(self._wake, next_round - time.monotonic())

    def poke(self, resident: Resident) -> None:
        """A signal of this seat came: look at it now."""
        self._poked.add(resident.seat.agent_id)
        self._wake.set()

    def verdict(self, resident: Resident) -> tuple[Signals, Verdict] | None:
        """Return what is known of a living seat and what it is judged to be; None when nothing lives there."""
        if not resident.alive or resident.manifest is None:
            return None
        signals = resident.signals(time.monotonic())
        return signals, judge(signals, resident.manifest)

    def _interval(self) -> float:
        now = time.monotonic()
        ages = [
            now - one.launched
            for one in self._residents.values()
            if one.alive and one.state.state in (AgentState.STARTING, AgentState.UNKNOWN)
        ]
        young = [age for age in ages if age < _YOUNG]
        return max(_SOONEST, min(SECONDS, min(young, default=SECONDS) / 4))

    async def look(self) -> None:
        """Look at every living seat once."""
        by_server: dict[ServerKey, list[Resident]] = {}
        for resident in self._residents.values():
            if resident.alive and resident.session is not None:
                by_server.setdefault(resident.session.server, []).append(resident)
        for key, residents in by_server.items():
            try:
                marks = (await self._pool.observe(key, start=False)).marks
                for resident in residents:
                    await self._look_at(resident, marks)
            except FleetError as error:
                # The supervisor brings the server back, or tells what is wrong with it.
                log.debug("a tmux server could not be looked at", server=key.socket_name, why=error.why)
                for resident in residents:
                    if resident.alive:
                        resident.screen = None
                        self._judge(resident)

    async def _look_at_poked(self) -> None:
        """Look at the seats of which a signal came. One whose signal still ripens is looked at again when it has."""
        self._wake.clear()
        poked, self._poked = self._poked, set()
        for agent_id in poked:
            resident = self._residents.get(agent_id)
            if resident is None or not resident.alive or resident.pane is None:
                continue
            try:
                await self._capture(resident)
            except FleetError as error:
                log.debug("a pane could not be looked at", agent=agent_id, why=error.why)
            self._judge(resident)
            if (wait := resident.ripens_in(time.monotonic())) > 0:
                asyncio.get_running_loop().call_later(wait, self.poke, resident)

    async def _look_at(self, resident: Resident, marks: Mapping[str, str]) -> None:
        pane = resident.pane
        if pane is None or (mark := marks.get(pane.pane_id)) is None:
            return
        now = time.monotonic()
        if mark != resident.mark:
            resident.mark, resident.wrote = mark, now
        unsettled = resident.state.state in (AgentState.STARTING, AgentState.UNKNOWN)
        if now - resident.wrote <= _STILL_MOVING or unsettled or resident.screen is None:
            await self._capture(resident)
        self._judge(resident)

    async def _capture(self, resident: Resident) -> None:
        """Take the screen's facts anew."""
        pane, manifest = resident.pane, resident.manifest
        if pane is None or manifest is None:
            return
        shot = await look(pane.server, pane.pane_id)
        if resident.pane is not pane:
            return
        facts = ScreenFacts.of(shot, manifest)
        resident.screen, resident.looked = facts, time.monotonic()
        resident.was_ready = resident.was_ready or facts.ready
        if resident.session is not None:
            resident.runs = what_runs(resident.seat, resident.session, manifest)
        resident.in_foreground = await self._in_foreground(resident, facts)

    def _judge(self, resident: Resident) -> None:
        if (found := self.verdict(resident)) is None:
            return
        command = resident.screen.command if resident.screen is not None else resident.command
        now = (command, resident.runs, resident.facts)
        told = now != resident.last_told or resident.has_output_to_tell()
        resident.command, resident.last_told = command, now
        if resident.enter(found[1].state) or told:
            self._on_change(resident)

    async def _in_foreground(self, resident: Resident, facts: ScreenFacts) -> bool:
        manifest, session = resident.manifest, resident.session
        if manifest is None or session is None or manifest.composer.kind != "line" or facts.composer:
            return True  # nobody asks
        return await has_terminal(session.pid)
