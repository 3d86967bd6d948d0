"""How far each peer's rows have come in, and how old what it said last is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from mosaic_controlplane.register.database import Connection
from mosaic_controlplane.register.sql import load

SQL = load("peer_feed")


@dataclass(frozen=True, slots=True)
class FeedPlace:
    """Where a peer's stream goes on. `cursor` is the owner's; empty: from the beginning."""

    register_epoch: UUID | None
    cursor: str
    skipped: dict[str, int]


async def hold(connection: Connection, *, tenant_id: UUID, peer_id: UUID) -> FeedPlace | None:
    """Keep a pairing from being ended until this transaction ends. None when it does not stand any more."""
    row = await connection.fetchrow(SQL.hold, tenant_id, peer_id)
    return FeedPlace(row["register_epoch"], row["cursor"], json.loads(row["skipped"])) if row else None


async def advance(connection: Connection, *, tenant_id: UUID, peer_id: UUID, cursor: str) -> None:
    """Everything up to `cursor` has been kept."""
    await connection.execute(SQL.advance, tenant_id, peer_id, cursor)


async def anew(
    connection: Connection, *, tenant_id: UUID, peer_id: UUID, cursor: str, register_epoch: UUID, version: str
) -> None:
    """A snapshot has been kept: of which register, and by which version of the program."""
    await connection.execute(SQL.anew, tenant_id, peer_id, cursor, register_epoch, version)


async def heard(connection: Connection, *, tenant_id: UUID, peer_id: UUID) -> None:
    """A bookmark came: as of now, by this database's clock, all that the peer shares is known."""
    await connection.execute(SQL.heard, tenant_id, peer_id)


async def set_granted(connection: Connection, *, tenant_id: UUID, peer_id: UUID, granted: bytes) -> None:
    """Keep what the peer lets us do there: a serialised mosaic.v1.GrantsHeld."""
    await connection.execute(SQL.set_granted, tenant_id, peer_id, granted)


async def set_skipped(connection: Connection, *, tenant_id: UUID, peer_id: UUID, skipped: Mapping[str, int]) -> None:
    """Keep which kinds of rows were skipped, and how many of each."""
    await connection.execute(SQL.set_skipped, tenant_id, peer_id, json.dumps(skipped))


async def set_problem(connection: Connection, *, tenant_id: UUID, peer_id: UUID, problem: str) -> bool:
    """Keep why nothing is heard of a peer; whether that was news."""
    return await connection.fetchval(SQL.set_problem, tenant_id, peer_id, problem) is not None


async def judge(connection: Connection) -> list[tuple[UUID, UUID, str]]:
    """Write the health of every peer by the age of its last bookmark. Returns the changes: (tenant, peer, health)."""
    return [(row["tenant_id"], row["peer_id"], row["health"]) for row in await connection.fetch(SQL.judge)]
