"""What one replica does at a time for all peers: a stream to each, and how old what they say is."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from datetime import timedelta
from uuid import UUID

import structlog
from mosaic_framework.errors import FleetError

from mosaic_controlplane.federation.subscriber import Subscriber
from mosaic_controlplane.mesh.wakes import Wakes
from mosaic_controlplane.register import peer as peer_table
from mosaic_controlplane.register import peer_feed, peer_row
from mosaic_controlplane.register.change import KEPT
from mosaic_controlplane.register.database import Connection, Database
from mosaic_controlplane.register.replica import WakeKey
from mosaic_controlplane.register.singleton import elected

DUTY = "federation"
TICK_SECONDS = 1.0
ELECTION_SECONDS = 1.0
_FORGET_EVERY = 600  # ticks

log = structlog.get_logger(__name__)

Also = Callable[[Connection], Awaitable[None]]
"""Something else that the holder of the duty does with every tick, on the connection that holds it."""


class Duty:
    """Follows every peer where it is elected; elsewhere it stands by.

    `changed` is set when other peers stand than before; `beside` runs meanwhile, on connections of the pool. The lock
    for each stream is its own, on the connection that writes what comes: a holder that was cut off writes nothing any
    more.
    """

    def __init__(
        self,
        database: Database,
        wakes: Wakes,
        subscriber: Subscriber,
        *,
        changed: asyncio.Event,
        beside: Callable[[], Coroutine[None, None, None]],
        also: Sequence[Also] = (),
    ) -> None:
        self._database = database
        self._wakes = wakes
        self._subscriber = subscriber
        self._changed = changed
        self._beside = beside
        self._also = also

    async def run(self) -> None:
        """Follow, or stand by, until cancelled."""
        while True:
            try:
                async with elected(self._database, DUTY) as connection:
                    if connection is not None:
                        await self._lead(connection)
            except FleetError as error:
                log.warning("nobody can be followed without the register", why=error.why or error.what)
            except Exception:  # one tick that failed must not end the replica: the next does its work
                log.exception("a tick of the federation failed")
            await asyncio.sleep(ELECTION_SECONDS)

    async def _lead(self, connection: Connection) -> None:
        streams: dict[UUID, asyncio.Task[None]] = {}
        beside = asyncio.create_task(self._beside(), name="beside-the-federation")
        ticks = 0
        try:
            while True:
                await self._tick(connection, forget=ticks % _FORGET_EVERY == 0)
                ticks += 1
                standing = {peer.peer_id for peer in await peer_table.list_standing(connection)}
                for peer_id in standing - streams.keys():
                    streams[peer_id] = asyncio.create_task(self._subscriber.follow(peer_id))
                for peer_id in [one for one in streams if one not in standing]:
                    await _end(streams.pop(peer_id))
                for peer_id, stream in list(streams.items()):
                    if stream.done():
                        del streams[peer_id]
                        (outcome,) = await asyncio.gather(stream, return_exceptions=True)
                        if outcome is not None:  # of one peer, and be it that gRPC cancelled it: the others' go on
                            log.error("the stream of a peer failed", pairing=str(peer_id), exc_info=outcome)
                if beside.done():
                    beside.result()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(TICK_SECONDS):
                        await self._changed.wait()
                self._changed.clear()
        finally:
            for task in (beside, *streams.values()):
                task.cancel()
            await asyncio.gather(beside, *streams.values(), return_exceptions=True)

    async def _tick(self, connection: Connection, *, forget: bool) -> None:
        async with connection.transaction():
            judged = await peer_feed.judge(connection)
        for tenant_id, peer_id, health in judged:
            log.info("a peer's health has changed", pairing=str(peer_id), health=health)
            self._wakes.tell(WakeKey.change(tenant_id))
        if forget:
            await peer_row.forget_removed(connection, older_than=KEPT + timedelta(hours=1))
        for also in self._also:
            await also(connection)


async def _end(stream: asyncio.Task[None]) -> None:
    stream.cancel()
    await asyncio.gather(stream, return_exceptions=True)
