"""Messages and their receipts. Order: seat_seq, given under the seat's row lock. Steps only rise."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from mosaic_controlplane.register.database import Connection
from mosaic_controlplane.register.host import LinkKey
from mosaic_controlplane.register.sql import load

SQL = load("message")
QUEUE_LIMIT = 1_000
"""open messages at one seat"""


@dataclass(frozen=True, slots=True)
class NewMessage:
    """A message to be queued for an agent."""

    message_id: UUID
    sender_kind: str
    sender_id: UUID
    sender_name: str
    recipient_id: UUID
    body: str
    payload_digest: str
    deadline: timedelta
    reply_to: UUID | None
    thread_id: UUID | None
    mode: str = "send"
    sent_by: str = ""
    stripped: str = ""


@dataclass(frozen=True, slots=True)
class Identity:
    """What makes a message the one it is: who sent what to which seat; and the seat's address, even when it is gone."""

    sender_kind: str
    sender_id: UUID
    payload_digest: str
    recipient_id: UUID
    host: str
    name: str


@dataclass(frozen=True, slots=True)
class StepRow:
    """One step of a receipt, with its evidence."""

    step: str
    at: datetime
    source: str
    detail: str
    reason: str


@dataclass(frozen=True, slots=True)
class MessageRow:
    """A message with its receipt. `steps` are oldest first."""

    message_id: UUID
    tenant: str
    sender_kind: str
    sender_id: UUID
    sender_name: str
    sender_host: str
    """of a sender that is an agent; else empty"""
    recipient_kind: str
    recipient_id: UUID
    recipient_name: str | None
    recipient_host: str | None
    host_id: UUID | None
    recipient_strongest_step: str | None
    seat_seq: int | None
    step: str
    reason: str
    created_at: datetime
    deadline_at: datetime
    mode: str
    waits_for: str
    stripped: str
    sent_by: str
    cancel_asked_at: datetime | None
    body: str
    reply_to: UUID | None
    thread_id: UUID | None
    steps: list[StepRow]


@dataclass(frozen=True, slots=True)
class Offer:
    """A message to be pushed to its host now."""

    message_id: UUID
    recipient_id: UUID
    seat_seq: int
    body: str
    payload_digest: str
    sender_kind: str
    sender_name: str
    mode: str
    sender_host: str
    remaining_ms: int


async def queue(
    connection: Connection, *, tenant_id: UUID, message: NewMessage, queue_limit: int = QUEUE_LIMIT
) -> UUID | None:
    """Queue a message; returns its host, or None when the id is taken, the seat gone, or its queue full."""
    found = await connection.fetchval(
        SQL.queue,
        tenant_id,
        message.message_id,
        message.sender_kind,
        message.sender_id,
        message.sender_name,
        message.recipient_id,
        message.body,
        message.payload_digest,
        message.deadline,
        message.reply_to,
        message.thread_id,
        message.mode,
        message.sent_by,
        message.stripped,
        queue_limit,
    )
    return found if isinstance(found, UUID) else None


async def identity(connection: Connection, *, tenant_id: UUID, message_id: UUID) -> Identity | None:
    """Return who sent what to whom under this id, or None."""
    row = await connection.fetchrow(SQL.identity, tenant_id, message_id)
    return None if row is None else Identity(**dict(row))


async def receipts(
    connection: Connection,
    *,
    tenant_id: UUID,
    message_id: UUID | None = None,
    recipients: Sequence[UUID] | None = None,
    open_only: bool = False,
    limit: int = 50,
) -> list[MessageRow]:
    """Return messages with their receipts, newest first; the body only of the one named by `message_id`."""
    rows = await connection.fetch(
        SQL.receipts, tenant_id, message_id, None if recipients is None else list(recipients), open_only, limit
    )
    return [
        MessageRow(
            **{field: row[field] for field in MessageRow.__slots__ if field != "steps"},
            steps=[_step(step) for step in json.loads(row["steps"] or "[]")],
        )
        for row in rows
    ]


def _step(found: dict[str, str]) -> StepRow:
    return StepRow(**{**found, "at": datetime.fromisoformat(found["at"])})  # type: ignore[arg-type]


async def by_prefix(connection: Connection, *, tenant_id: UUID, first: UUID, last: UUID) -> list[UUID]:
    """Return up to six message ids between two ids."""
    return [row["message_id"] for row in await connection.fetch(SQL.by_prefix, tenant_id, first, last)]


async def offer(connection: Connection, link: LinkKey, *, limit: int = 64) -> list[Offer]:
    """Return what is to be pushed under this link now, in the order of typing, and mark it as offered."""
    rows = await connection.fetch(SQL.offer, link.tenant_id, link.host_id, link.link_epoch, limit)
    offers = [Offer(**dict(row)) for row in rows]
    return sorted(offers, key=lambda offer: (offer.recipient_id, offer.seat_seq))


async def step(
    connection: Connection,
    *,
    tenant_id: UUID,
    host_id: UUID,
    message_id: UUID,
    name: str,
    reason: str,
    age: timedelta,
    source: str,
    detail: str,
) -> bool:
    """Raise a message of this host to a step that happened `age` ago. False when it does not rise."""
    return (
        await connection.fetchval(SQL.step, tenant_id, host_id, message_id, name, reason, age, source, detail)
        is not None
    )


async def journal_replaced(connection: Connection, *, tenant_id: UUID, host_id: UUID, reason: str) -> list[UUID]:
    """End as unknown what an earlier journal of this host was given."""
    rows = await connection.fetch(SQL.journal_replaced, tenant_id, host_id, reason)
    return [row["message_id"] for row in rows]


async def expire(connection: Connection) -> list[tuple[UUID, UUID]]:
    """End the messages whose deadline has passed before a host had them. Returns (tenant, message)."""
    return [(row["tenant_id"], row["message_id"]) for row in await connection.fetch(SQL.expire)]


async def fail_unoffered(
    connection: Connection, *, tenant_id: UUID, recipients: Sequence[UUID], reason: str
) -> list[UUID]:
    """End what no host was given yet for seats that are gone."""
    rows = await connection.fetch(SQL.fail_unoffered, tenant_id, list(recipients), reason)
    return [row["message_id"] for row in rows]


async def cancel(connection: Connection, *, tenant_id: UUID, message_id: UUID, reason: str) -> tuple[str, bool] | None:
    """Take a message back, or ask its host to: (its step now, whether its host is to be asked). None: not here."""
    row = await connection.fetchrow(SQL.cancel, tenant_id, message_id, reason)
    return None if row is None else (row["step"], row["asked"])


async def cancels_of_host(connection: Connection, *, tenant_id: UUID, host_id: UUID) -> list[UUID]:
    """Return the messages given to a host that somebody asks to take back."""
    return [row["message_id"] for row in await connection.fetch(SQL.cancels_of_host, tenant_id, host_id)]


async def waits(connection: Connection, *, tenant_id: UUID, host_id: UUID, reasons: Mapping[UUID, str]) -> list[UUID]:
    """Write why messages of a host are not further; returns those of which that is new."""
    rows = await connection.fetch(SQL.waits, tenant_id, host_id, list(reasons), list(reasons.values()))
    return [row["message_id"] for row in rows]
