"""Messages to agents of other clusters: all that were sent from here, and those that wait to be handed over."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from mosaic_controlplane.register.database import Connection
from mosaic_controlplane.register.sql import load

SQL = load("peer_message")

OPEN = ("waiting", "offered")
"""States of a message that the peer is not known to have."""


@dataclass(frozen=True, slots=True)
class NewPeerMessage:
    """A message to be handed over to a peer. `request`: a mosaic.v1.SendRequest; `origin`: an OriginatingIdentity.

    `caller` is whose it is (Caller.key); `address` is host/agent, as the peer calls it; `queued`: it may wait here for
    a peer that is away.
    """

    tenant_id: UUID
    message_id: UUID
    peer_id: UUID
    caller: str
    address: str
    request: bytes = field(repr=False)
    origin: bytes
    queued: bool
    deadline: timedelta


@dataclass(frozen=True, slots=True)
class PeerMessageRow:
    """A message to a peer. `receipt`: as the peer said last, empty before; `heard_at`: when that was heard of last."""

    tenant_id: UUID
    tenant: str
    message_id: UUID
    peer_id: UUID
    peer: str
    stands: bool
    heard_at: datetime | None
    caller: str
    address: str
    request: bytes = field(repr=False)
    origin: bytes
    queued: bool
    made_at: datetime
    deadline_at: datetime
    state: str
    receipt: bytes = field(repr=False)
    problem: str
    tried_at: datetime


async def add(connection: Connection, new: NewPeerMessage) -> datetime | None:
    """Keep a message as offered; returns the attempt, or None when its id is taken."""
    found: datetime | None = await connection.fetchval(
        SQL.add,
        new.tenant_id,
        new.message_id,
        new.peer_id,
        new.caller,
        new.address,
        new.request,
        new.origin,
        new.queued,
        new.deadline,
    )
    return found


async def find(connection: Connection, *, tenant_id: UUID, message_id: UUID) -> PeerMessageRow | None:
    """Return a message, or None."""
    found = await connection.fetchrow(SQL.find, tenant_id, message_id)
    return PeerMessageRow(**found) if found else None


async def newest(
    connection: Connection,
    *,
    tenant_id: UUID,
    limit: int,
    peer_id: UUID | None = None,
    address: str = "",
    open_only: bool = False,
) -> list[PeerMessageRow]:
    """Return a tenant's messages to peers, newest first; with `peer_id`, those to that agent of it alone."""
    rows = await connection.fetch(SQL.newest, tenant_id, limit, peer_id, address, open_only)
    return [PeerMessageRow(**found) for found in rows]


async def by_prefix(connection: Connection, *, tenant_id: UUID, first: UUID, last: UUID) -> list[UUID]:
    """Return up to six ids between two."""
    return [found["message_id"] for found in await connection.fetch(SQL.by_prefix, tenant_id, first, last)]


async def offer(
    connection: Connection, *, tenant_id: UUID, message_id: UUID, by_sender: bool, queued: bool = False
) -> datetime | None:
    """Begin another attempt at a message; returns it. None: there is nothing to hand over, or it is too late."""
    found: datetime | None = await connection.fetchval(SQL.offer, tenant_id, message_id, by_sender, queued)
    return found


async def remaining(connection: Connection, *, tenant_id: UUID, message_id: UUID) -> timedelta:
    """Return how long is left until a message's deadline, by the database's clock; zero when it has passed."""
    return timedelta(seconds=await connection.fetchval(SQL.remaining, tenant_id, message_id) or 0)


async def handed(
    connection: Connection, *, tenant_id: UUID, message_id: UUID, receipt: bytes, steps: int, ended: bool
) -> bool:
    """The peer has it; `receipt` has so many steps, and may be at an end. False when more was known already."""
    return await connection.fetchval(SQL.handed, tenant_id, message_id, receipt, steps, ended) is not None


async def not_reached(
    connection: Connection, *, tenant_id: UUID, message_id: UUID, attempt: datetime, problem: str
) -> None:
    """The attempt surely did not reach the peer: it waits, or has failed."""
    await connection.execute(SQL.not_reached, tenant_id, message_id, attempt, problem)


async def refused(
    connection: Connection, *, tenant_id: UUID, message_id: UUID, attempt: datetime, problem: str
) -> None:
    """The peer would not have it."""
    await connection.execute(SQL.refused, tenant_id, message_id, attempt, problem)


async def in_doubt(
    connection: Connection, *, tenant_id: UUID, message_id: UUID, attempt: datetime, problem: str
) -> None:
    """No answer came to the attempt."""
    await connection.execute(SQL.in_doubt, tenant_id, message_id, attempt, problem)


async def forgotten(connection: Connection, *, tenant_id: UUID, message_id: UUID, problem: str) -> None:
    """The peer does not know any more what it had been given."""
    await connection.execute(SQL.forgotten, tenant_id, message_id, problem)


async def cancel(
    connection: Connection, *, tenant_id: UUID, message_id: UUID, reason: str, peer_has_it_not: bool = False
) -> bool:
    """Take back what waits, or what the peer has said it will not take. False when it is neither."""
    return await connection.fetchval(SQL.cancel, tenant_id, message_id, reason, peer_has_it_not) is not None


async def due(connection: Connection, *, peer_id: UUID | None = None, limit: int = 100) -> list[PeerMessageRow]:
    """Return what there is to hand over to each peer (or this one), at most `limit` for each, by peer and age."""
    return [PeerMessageRow(**found) for found in await connection.fetch(SQL.due, peer_id, limit)]


async def on_their_way(connection: Connection, *, limit: int) -> list[PeerMessageRow]:
    """Return what each peer is to be asked after, as it has it: at most `limit` for each, by peer."""
    return [PeerMessageRow(**found) for found in await connection.fetch(SQL.on_their_way, limit)]


async def asked(connection: Connection, *, tenant_id: UUID, message_id: UUID) -> None:
    """The peer is asked after a message that it has."""
    await connection.execute(SQL.asked, tenant_id, message_id)


async def expire(connection: Connection) -> list[tuple[UUID, UUID]]:
    """End what is past its deadline or of a pairing that is over. Returns (tenant, message)."""
    return [(found["tenant_id"], found["message_id"]) for found in await connection.fetch(SQL.expire)]
