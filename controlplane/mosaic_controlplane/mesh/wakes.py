"""Wakes: who waits for a key is woken by NOTIFY, on whichever replica they wait; under it is a rescan every 5 s."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from uuid import UUID

import structlog

from mosaic_controlplane.register import replica
from mosaic_controlplane.register.database import Database, RegisterUnreachable
from mosaic_controlplane.register.notifications import Teller, listen
from mosaic_controlplane.register.replica import WakeKey, channel_of

RESCAN_SECONDS = 5.0
RECONNECT_SECONDS = 0.5
LINGER_SECONDS = 0.5  # whoever waits again at once, as workers do, finds it said already that somebody does

log = structlog.get_logger(__name__)


class Wakes:
    """NOTIFY in both directions for one replica.

    `tell` gathers: while one NOTIFY statement runs, the keys that come up wait for the next, so that commits with
    NOTIFY never queue on Postgres's one lock for it. A lost NOTIFY costs a rescan, never a message.
    """

    def __init__(self, database: Database, replica_id: UUID) -> None:
        self._database = database
        self._replica_id = replica_id
        self._waiting: dict[str, set[asyncio.Event]] = defaultdict(set)
        self._rescanning: set[asyncio.Event] = set()
        self._to_tell: set[WakeKey] = set()
        self._something_to_tell = asyncio.Event()
        self._watchers = 0
        self._watching_lock = asyncio.Lock()
        self._unsaying: asyncio.Task[None] | None = None
        self._said: bool | None = None
        """what the register was told last of whether anybody watches here; None: it may not know"""

    def tell(self, *keys: WakeKey) -> None:
        """Wake whoever waits for `keys`. Call it after the write has committed."""
        self._to_tell.update(keys)
        self._something_to_tell.set()

    @contextlib.contextmanager
    def waiting_for(self, key: WakeKey, event: asyncio.Event) -> Iterator[None]:
        """Set `event` at every wake for `key`. The waiter clears it, and sees to rescans itself (`rescans`)."""
        self._waiting[key.key].add(event)
        try:
            yield
        finally:
            self._waiting[key.key].discard(event)
            if not self._waiting[key.key]:
                del self._waiting[key.key]

    @contextlib.contextmanager
    def rescans(self) -> Iterator[asyncio.Event]:
        """Lend an event that is set whenever wakes may have been lost. The waiter clears it."""
        event = asyncio.Event()
        self._rescanning.add(event)
        try:
            yield event
        finally:
            self._rescanning.discard(event)

    @contextlib.asynccontextmanager
    async def watching(self, key: WakeKey) -> AsyncIterator[asyncio.Event]:
        """Lend an event that is set at every wake for `key`, and at every reconnect. The waiter clears it.

        For keys that are sent only where somebody watches: says first that somebody does.
        """
        self._watchers += 1
        try:
            await self.say_watching()
            with self.rescans() as event, self.waiting_for(key, event):
                yield event
        finally:
            self._watchers -= 1
            # Not waited for: whoever was woken has an answer to give, and this is a write of its own.
            if self._watchers == 0 and (self._unsaying is None or self._unsaying.done()):
                self._unsaying = asyncio.create_task(self._unsay())

    async def _unsay(self) -> None:
        await asyncio.sleep(LINGER_SECONDS)
        await self.say_watching()

    async def say_watching(self) -> None:
        """Tell the register whether anybody watches here, unless it knows. Called again with every tick."""
        async with self._watching_lock:
            watching = self._watchers > 0
            if self._said is watching:
                return
            self._said = None
            try:
                async with self._database.connection() as connection:
                    await replica.set_watching(connection, replica_id=self._replica_id, watching=watching)
            except RegisterUnreachable as error:
                log.warning("could not say whether anybody watches here", why=error.why)
            else:
                self._said = watching

    async def rescan(self) -> None:
        """Wakes may have been lost: say anew whether anybody watches here, and let all who wait look again."""
        self._said = None
        await self.say_watching()
        for event in self._rescanning:
            event.set()

    async def run(self) -> None:
        """Listen and tell until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._listen())
            tasks.create_task(self._tell())

    async def _listen(self) -> None:
        while True:
            try:
                await listen(self._database, channel_of(self._replica_id), ready=self.rescan, heard=self._heard)
            except RegisterUnreachable as error:
                log.warning("cannot listen for wakes", why=error.why or error.what)
                await asyncio.sleep(RECONNECT_SECONDS)

    def _heard(self, key: str) -> None:
        for event in self._waiting.get(key, ()):
            event.set()

    async def _tell(self) -> None:
        teller = Teller(self._database)
        try:
            while True:
                await self._something_to_tell.wait()
                self._something_to_tell.clear()
                keys, self._to_tell = self._to_tell, set()
                try:
                    await teller.tell(keys)
                except RegisterUnreachable as error:
                    # Not told again: whoever waits rescans when its listener is back.
                    log.warning("could not tell of changes", keys=len(keys), why=error.why)
        finally:
            teller.close()


async def wait_for_wake(event: asyncio.Event, seconds: float = RESCAN_SECONDS) -> None:
    """Return at the next wake, or after `seconds`: whoever waits then looks again."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    event.clear()
