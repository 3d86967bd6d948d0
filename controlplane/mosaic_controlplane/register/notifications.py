"""LISTEN and NOTIFY on connections of their own, which a pool would clear on release."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection

import asyncpg

from mosaic_controlplane.register import replica
from mosaic_controlplane.register.database import Database, RegisterUnreachable
from mosaic_controlplane.register.replica import WakeKey

PROBE_SECONDS = 5.0


async def listen(
    database: Database, channel: str, *, ready: Callable[[], Awaitable[None]], heard: Callable[[str], None]
) -> None:
    """Call `heard` with every payload of `channel`, and `ready` once listening; returns never.

    Raises RegisterUnreachable when the connection cannot be made, or ends.
    """
    connection = await database.dedicated()
    ended = asyncio.Event()
    connection.add_termination_listener(lambda _connection: ended.set())
    try:
        await connection.add_listener(channel, lambda _c, _pid, _channel, payload: heard(str(payload)))
        await ready()
        while not ended.is_set():
            try:
                async with asyncio.timeout(PROBE_SECONDS):
                    await ended.wait()
            except TimeoutError:
                # A server that vanished says nothing; who only listens would never find out.
                await connection.execute("select 1", timeout=PROBE_SECONDS)
        raise RegisterUnreachable("the connection that listens for wakes ended")
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        raise RegisterUnreachable("the connection that listens for wakes ended", why=str(error)) from error
    finally:
        connection.terminate()


class Teller:
    """The connection that NOTIFY is sent on. Its commits wait for no disk: a wake lost in a crash costs a rescan."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None

    async def tell(self, keys: Collection[WakeKey]) -> None:
        """Wake whoever waits for `keys`. Raises RegisterUnreachable; the next call connects anew."""
        try:
            if self._connection is None or self._connection.is_closed():
                self._connection = await self._database.dedicated(synchronous_commit="off")
            await replica.notify(self._connection, keys)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
            self.close()
            raise RegisterUnreachable("could not tell of changes", why=str(error)) from error

    def close(self) -> None:
        """Drop the connection."""
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None
