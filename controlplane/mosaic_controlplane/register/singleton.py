"""Singletons: what only one replica does at a time, elected by an advisory lock, on the connection that holds it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mosaic_controlplane.register.database import Connection, Database

_SETTINGS = {
    # A process that is gone lets go at once, for its connection ends; one that is stopped answers keepalives for ever.
    "idle_session_timeout": "10s",
    "idle_in_transaction_session_timeout": "10s",
}


@asynccontextmanager
async def elected(database: Database, duty: str) -> AsyncIterator[Connection | None]:
    """Lend the connection that holds the lock of `duty`, or None when another replica holds it.

    What a singleton writes, it writes on this connection: when the connection is lost, so are the lock and the write.
    Who holds it says something at least every 10 s, or loses it to another. The lock is tried, not waited for: a
    session that waits keeps a snapshot open, which stalls the change cursor.
    """
    async with database.own(**_SETTINGS) as connection:
        won = await connection.fetchval("select pg_try_advisory_lock(hashtextextended($1, 7))", f"singleton {duty}")
        yield connection if won else None
