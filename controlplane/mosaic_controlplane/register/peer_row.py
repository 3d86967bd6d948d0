"""What other clusters show of theirs: rows of the owner's, in tables of their own, never served on."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from mosaic_controlplane.register.database import Connection
from mosaic_controlplane.register.sql import load

SQL = load("peer_row")
PAGE = 20_000
_WHOLE_SECONDS = 60.0  # for a statement on all rows of a peer

Key = tuple[str, UUID]
"""A row of one peer: its kind and its id there."""


@dataclass(frozen=True, slots=True)
class SharedRow:
    """A row of a peer's, which is called `cluster` here. `health`: paired, live, stale or lost, as of the reading.

    `content`: a mosaic.v1 message, by its kind; empty of one that is `removed`.
    """

    peer_id: UUID
    tenant: str
    cluster: str
    health: str
    heard_at: datetime | None
    kind: str
    id: UUID
    content: bytes
    removed: bool


async def put(
    connection: Connection, *, tenant_id: UUID, peer_id: UUID, rows: Sequence[tuple[str, UUID, bytes]]
) -> None:
    """Keep rows (kind, id, content), each once, as the owner has them now."""
    if rows:
        kinds, ids, contents = (list(column) for column in zip(*rows, strict=True))
        await connection.execute(SQL.put, tenant_id, peer_id, kinds, ids, contents)


async def drop(connection: Connection, *, tenant_id: UUID, peer_id: UUID, keys: Collection[Key]) -> None:
    """Take rows away that the owner shows no more; what they said is not kept."""
    if keys:
        kinds, ids = (list(column) for column in zip(*keys, strict=True))
        await connection.execute(SQL.drop_rows, tenant_id, peer_id, kinds, ids)


async def begin_arriving(connection: Connection) -> None:
    """Make room for a snapshot, on a connection of one's own; what had arrived of another is thrown away."""
    await connection.execute(SQL.make_arriving)
    await connection.execute(SQL.empty_arriving)


async def arrive(connection: Connection, rows: Sequence[tuple[str, UUID, bytes]]) -> None:
    """Keep rows of a snapshot that is on its way in; nobody sees them yet."""
    await connection.copy_records_to_table("arriving", records=rows, columns=["kind", "id", "content"])


async def take_arrived(connection: Connection, *, tenant_id: UUID, peer_id: UUID) -> None:
    """Let what has arrived be all that is known of a peer, in the caller's transaction."""
    await connection.execute(SQL.take_arrived, tenant_id, peer_id, timeout=_WHOLE_SECONDS)
    await connection.execute(SQL.drop_others, tenant_id, peer_id, timeout=_WHOLE_SECONDS)


async def ids(connection: Connection, *, tenant_id: UUID, peer_id: UUID, after: Key, limit: int = PAGE) -> list[Key]:
    """Return up to `limit` of the rows known of a peer after one, in the order of their keys."""
    rows = await connection.fetch(SQL.ids, tenant_id, peer_id, *after, limit)
    return [(row["kind"], row["id"]) for row in rows]


async def of_peers(connection: Connection, *, tenant_id: UUID, peers: Collection[UUID]) -> list[SharedRow]:
    """Return what these peers show."""
    return [SharedRow(**row) for row in await connection.fetch(SQL.of_peers, tenant_id, list(peers))]


async def sizes(connection: Connection, *, tenant_id: UUID) -> dict[UUID, int]:
    """Return how many bytes the rows of each peer have."""
    return {row["peer_id"]: row["bytes"] for row in await connection.fetch(SQL.sizes, tenant_id)}


async def by_ids(connection: Connection, *, tenant_id: UUID, ids: Collection[UUID]) -> list[SharedRow]:
    """Return the rows of these ids of peers that stand, those that are gone too."""
    return [SharedRow(**row) for row in await connection.fetch(SQL.by_ids, tenant_id, list(ids))] if ids else []


async def forget_removed(connection: Connection, *, older_than: timedelta) -> None:
    """Delete what is left of rows that went long ago."""
    await connection.execute(SQL.forget_removed, older_than)
