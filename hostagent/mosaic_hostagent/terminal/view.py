"""One seat's terminal as its viewers see it: one look for all of them, at most a few times a second, across runs.

While somebody watches, one tap says when there is something new to see; the picture is then captured, so that what a
program wrote in between is never stored, and a noisy program costs no more than a busy one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import structlog
from mosaic_framework.errors import FleetError, NotFound
from mosaic_framework.screen_feed import ScreenFeed
from mosaic_proto.v1 import terminal_pb2

from mosaic_hostagent.residents import Resident
from mosaic_hostagent.seats import Session
from mosaic_hostagent.terminal.history import Seen, scrolled_between
from mosaic_hostagent.terminal.picture import Picture, picture_commands, picture_of
from mosaic_hostagent.terminal.problems import TerminalLost, TmuxRefused
from mosaic_hostagent.terminal.server import TmuxServer
from mosaic_hostagent.terminal.tap import Tap
from mosaic_hostagent.waiting import wait_at_most

FIRST_SECONDS = 0.01
"""From the first output after silence to the look: a person who types sees the echo at once, and whole."""

QUICK_SECONDS = 0.03
"""Between two looks while changes are few."""

STEADY_SECONDS = 0.1
"""Between two looks while changes do not end: ten pictures a second are more than anybody reads."""

_QUICK_LOOKS = 10
_RETRY_SECONDS = 0.5
_IDLE_SECONDS = 1.0  # titles, copy mode and the age of a lease change without output
_GONE = "its terminal cannot be reached"

log = structlog.get_logger(__name__)


class SeatView:
    """The feed of one seat. `changed` is replaced by a new event with every change; `problem`: it has ended."""

    def __init__(
        self, resident: Callable[[], Resident | None], server: Callable[[Session], TmuxServer], *, scrolled: bool
    ) -> None:
        self.feed = ScreenFeed()
        self.changed = asyncio.Event()
        self.problem: FleetError | None = None
        self._resident = resident
        self._server = server
        self._scrolled = scrolled
        self._poke = asyncio.Event()
        self._seen: Seen | None = None
        self._streak = 0

    def poke(self) -> None:
        """Look now: something changed that is not output."""
        self._poke.set()

    async def run(self) -> None:
        """Follow the seat from run to run until cancelled, or until it is no more."""
        stirred = asyncio.create_task(self._stirred(), name="view-stirred")
        try:
            while (resident := self._resident()) is not None:
                session, alive = resident.session, resident.alive
                try:
                    if alive and session is not None:
                        await self._follow(resident, session)
                    await self._still(resident)
                except (TerminalLost, TmuxRefused) as error:
                    log.info("a watched terminal was lost", agent=resident.seat.agent_id, why=error.why)
                    self._show_note(resident, _GONE)
                    await asyncio.sleep(_RETRY_SECONDS)
                await self._next(_IDLE_SECONDS)
            self.problem = NotFound("the seat was taken out of the roster")
        except Exception as error:
            self.problem = error if isinstance(error, FleetError) else FleetError("the view failed", why=str(error))
            raise
        finally:
            stirred.cancel()
            self._tell()

    async def _stirred(self) -> None:
        while (resident := self._resident()) is not None:
            await resident.changed.wait()
            self._poke.set()
        self._poke.set()

    async def _follow(self, resident: Resident, session: Session) -> None:
        """Show one run while it lives."""
        server = self._server(session)
        tap = await Tap.attach(server, session.session_id, session.pane_id, self._poke.set)
        self._seen = None
        try:
            while resident.alive and resident.session is session and self._resident() is resident:
                # A tap that is not attached yet, or not any more, cannot be armed: then the clock alone tells.
                self._take(resident, await self._look(server, session, tap))
                if tap.ended:
                    return
                looked = time.monotonic()
                await self._next(_IDLE_SECONDS)
                self._streak = self._streak + 1 if time.monotonic() - looked < STEADY_SECONDS else 0
                await asyncio.sleep(_pause(self._streak))
        finally:
            await tap.close()

    async def _still(self, resident: Resident) -> None:
        """Show the last words of a run that has ended, or nothing."""
        session = resident.session
        if resident.alive:
            return
        note = resident.problem or resident.note or resident.state.detail or "it does not run"
        if session is None:
            self._show_note(resident, note)
            return
        try:
            self._take(resident, await self._look(self._server(session), session, None), note=note)
        except TmuxRefused:
            self._show_note(resident, note)

    async def _look(self, server: TmuxServer, session: Session, tap: Tap | None) -> Picture:
        commands = picture_commands(session.pane_id, above=self._scrolled)
        self._poke.clear()
        if tap is not None:
            try:
                # Armed before the capture: what is written after it is told.
                _, *replies = await server.run(tap.rearm, *commands)
            except TmuxRefused as refused:
                if "client" not in refused.why:
                    raise
                self._poke.set()
                replies = await server.run(*commands)
        else:
            replies = await server.run(*commands)
        figures, rows, *above = replies
        return picture_of(figures, rows, above[0] if above else [])

    def _take(self, resident: Resident, picture: Picture, *, note: str = "") -> None:
        status = picture.status
        status.run_id = resident.run_id
        status.note = note
        line = resident.manifest is not None and resident.manifest.composer.kind == "line"
        status.full_screen = status.full_screen or not line
        self._drive(resident, status)
        lines: list[str] = []
        skipped = 0
        if self._seen is None:
            self.feed.recall(picture.seen.above)
        else:
            lines, skipped = scrolled_between(self._seen, picture.seen)
        self._seen = picture.seen
        if not self._scrolled:
            lines, skipped = [], skipped + len(lines)
        if self.feed.show(picture.rows, status, scrolled=lines, skipped=skipped):
            self._tell()

    def _show_note(self, resident: Resident, note: str) -> None:
        status = terminal_pb2.TerminalStatus(run_id=resident.run_id, note=note)
        self._drive(resident, status)
        self._seen = None
        if self.feed.show((), status):
            self._tell()

    def _drive(self, resident: Resident, status: terminal_pb2.TerminalStatus) -> None:
        now = time.monotonic()
        if (lease := resident.driving.lease(now)) is not None:
            status.driver = lease.holder
            status.driven_ms = int(now - lease.since) * 1000

    def _tell(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()

    async def _next(self, seconds: float) -> None:
        """Wait until there is reason to look, or until the clock says so."""
        await wait_at_most(self._poke, seconds)
        self._poke.clear()


def _pause(streak: int) -> float:
    """Return the seconds between the reason for a look and the look, after so many looks without silence (pure)."""
    if not streak:
        return FIRST_SECONDS
    return QUICK_SECONDS if streak < _QUICK_LOOKS else STEADY_SECONDS
