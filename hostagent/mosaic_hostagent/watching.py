"""Looks at the seats' screens, seldom when nothing moves, and says which state each is in."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping

import structlog
from mosaic_framework.errors import FleetError

from mosaic_hostagent.processes import has_terminal
from mosaic_hostagent.readiness import SETTLED_SECONDS, AgentState, Signals, readiness, shows_ready
from mosaic_hostagent.residents import Resident
from mosaic_hostagent.running import what_runs
from mosaic_hostagent.seats import ServerKey
from mosaic_hostagent.terminal.evidence import Snapshot, prompt_is_up
from mosaic_hostagent.terminal.pool import ServerPool
from mosaic_hostagent.terminal.screen import look

SECONDS = 1.0
_SOONEST = 0.05
_YOUNG = 15.0
# tmux dates output to the second, so a screen that moved lately may move again under the same mark.
_STILL_MOVING = SETTLED_SECONDS + 2.0

log = structlog.get_logger(__name__)


class Watching:
    """Keeps the states of living seats true. `on_change` is told of each whose report is new."""

    def __init__(
        self, residents: Mapping[str, Resident], pool: ServerPool, on_change: Callable[[Resident], None]
    ) -> None:
        self._residents = residents
        self._pool = pool
        self._on_change = on_change

    async def run(self) -> None:
        """Look until cancelled: every second, and more often while a seat starts."""
        while True:
            await self.look()
            await asyncio.sleep(self._interval())  # tmux tells only a session's own clients of its output

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

    async def _look_at(self, resident: Resident, marks: Mapping[str, str]) -> None:
        pane, manifest = resident.pane, resident.manifest
        if pane is None or manifest is None or (mark := marks.get(pane.pane_id)) is None:
            return
        now = time.monotonic()
        if mark != resident.mark:
            resident.mark, resident.wrote = mark, now
        unsettled = resident.state.state in (AgentState.STARTING, AgentState.UNKNOWN)
        if now - resident.wrote > _STILL_MOVING and not unsettled:
            if resident.has_output_to_tell():
                self._on_change(resident)
            return
        shot = await look(pane.server, pane.pane_id)
        if not resident.alive or resident.pane is not pane:
            return
        resident.was_ready = resident.was_ready or shows_ready(shot, manifest)
        signals = Signals(
            snapshot=shot,
            age=now - resident.launched,
            quiet=now - resident.wrote,
            was_ready=resident.was_ready,
            in_foreground=await self._in_foreground(resident, shot),
        )
        told = self._what_runs(resident, shot) or resident.has_output_to_tell()
        if resident.enter(readiness(signals, manifest)) or told:
            self._on_change(resident)

    def _what_runs(self, resident: Resident, shot: Snapshot) -> bool:
        """Note what the pane runs now; say whether that is another thing than before."""
        before = resident.command, resident.runs
        resident.command = shot.command
        if resident.session is not None and resident.manifest is not None:
            resident.runs = what_runs(resident.seat, resident.session, resident.manifest)
        return (resident.command, resident.runs) != before

    async def _in_foreground(self, resident: Resident, shot: Snapshot) -> bool:
        manifest, session = resident.manifest, resident.session
        if manifest is None or session is None or manifest.composer.kind != "line" or prompt_is_up(shot, manifest):
            return True  # nobody asks
        return await has_terminal(session.pid)
