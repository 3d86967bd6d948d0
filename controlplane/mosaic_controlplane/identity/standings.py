"""Whose standing may have changed: told by the register at once, and asked for every 5 s in case a word was lost."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from uuid import UUID

import structlog

from mosaic_controlplane.register import revocation
from mosaic_controlplane.register.database import Database, RegisterUnreachable
from mosaic_controlplane.register.notifications import listen
from mosaic_controlplane.register.revocation import CHANNEL, Identity

RESCAN_SECONDS = 5.0
RECONNECT_SECONDS = 0.5

log = structlog.get_logger(__name__)


async def _nothing() -> None:
    """What is told while nobody keeps roots."""


class Standings:
    """Wakes the streams of this replica whose caller may not stand as before. They then ask for themselves."""

    def __init__(self, database: Database, *, rescan_seconds: float = RESCAN_SECONDS) -> None:
        self._database = database
        self._rescan_seconds = rescan_seconds
        self._watched: dict[Identity, set[asyncio.Event]] = {}
        self.changes = 0
        """how often anything changed: what was read under another number may be from before"""
        self.on_change: Callable[[], None] = lambda: None
        """told before the streams are woken"""
        self.on_look: Callable[[], Awaitable[None]] = _nothing
        """awaited at every rescan, and at a change that is of nobody here: it may be of a root"""
        self._told = asyncio.Event()
        self._named: set[str] = set()

    @contextlib.contextmanager
    def watching(self, identity: Identity, *, since: int) -> Iterator[asyncio.Event]:
        """Lend an event that is set when this one may not stand as before; the waiter clears it.

        `since`: what `changes` was before the caller was looked up.
        """
        event = asyncio.Event()
        if since != self.changes:
            event.set()
        self._watched.setdefault(identity, set()).add(event)
        try:
            yield event
        finally:
            events = self._watched[identity]
            events.discard(event)
            if not events:
                del self._watched[identity]

    async def run(self) -> None:
        """Listen and look until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._listen())
            tasks.create_task(self._look())

    async def _listen(self) -> None:
        while True:
            try:
                await listen(self._database, CHANNEL, ready=self._listening, heard=self._heard)
            except RegisterUnreachable as error:
                log.warning("cannot listen for revocations", why=error.why or error.what)
                await asyncio.sleep(RECONNECT_SECONDS)

    async def _listening(self) -> None:
        """A word may have been lost before this connection listened."""
        self._told.set()

    def _heard(self, key: str) -> None:
        self.changes += 1
        self._named.add(key)
        self._told.set()

    async def _look(self) -> None:
        while True:
            named, self._named = self._named, set()
            try:
                await self._wake(named, rescan=not named)
            except RegisterUnreachable as error:
                log.warning("cannot look who still stands", why=error.why or error.what)
                self._named |= named
                await asyncio.sleep(RECONNECT_SECONDS)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._rescan_seconds):
                    await self._told.wait()
            self._told.clear()

    async def _wake(self, named: set[str], *, rescan: bool) -> None:
        """Wake the streams of those named; in a rescan of those who the register says no longer stand."""
        if named:
            self.on_change()
        known = {str(identity.identity_id) for identity in self._watched}
        # A key that is nobody's here may be a root's, or somebody's who has no stream here; a peer has its own roots.
        peers = {str(identity.identity_id) for identity in self._watched if identity.kind == "peer"}
        if rescan or not named <= known - peers:
            await self.on_look()
        woken = {UUID(key) for key in named & known}
        asked = [one for one in self._watched if one.kind in ("host", "operator", "peer")]
        if rescan and asked:
            async with self._database.connection() as connection:
                woken = await revocation.fallen(connection, asked)
        for identity, events in list(self._watched.items()):
            if identity.identity_id in woken:
                for event in events:
                    event.set()

    def wake_everybody(self) -> None:
        """Let every stream look again: the roots have changed."""
        self.changes += 1
        for events in self._watched.values():
            for event in events:
                event.set()
