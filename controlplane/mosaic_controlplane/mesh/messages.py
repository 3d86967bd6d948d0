"""Messages: queue one for an agent, follow its receipt, list them."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from mosaic_framework import secret_shapes
from mosaic_framework.errors import Ambiguous, Conflict, InvalidInput, NotFound, TooLarge
from mosaic_framework.names import match_address
from mosaic_framework.steps import reached as reached_place

from mosaic_controlplane.identity.caller import Caller
from mosaic_controlplane.mesh import addresses
from mosaic_controlplane.mesh.wakes import Wakes, wait_for_wake
from mosaic_controlplane.register import message as message_table
from mosaic_controlplane.register.agent import Seat
from mosaic_controlplane.register.audit import record
from mosaic_controlplane.register.database import Connection, Database
from mosaic_controlplane.register.message import MessageRow, NewMessage
from mosaic_controlplane.register.replica import WakeKey

BODY_LIMIT = 256 * 1024
DEFAULT_DEADLINE = timedelta(hours=24)
LONGEST_DEADLINE = timedelta(days=30)
ENDS = frozenset({"turn_ended", "unknown", "failed", "expired", "cancelled"})
LADDER = ("queued", "dispatched", "typed", "submitted", "accepted", "turn_started", "turn_ended")


class MessageTooLarge(TooLarge):
    """The message is larger than 256 KiB."""

    code = "message-too-large"
    hint = "put the text in a file that the agent can read, and send its path"


class MessageReused(Conflict):
    """This message id was already used for another message."""

    code = "message-reused"
    hint = "send it again without a fixed id"


@dataclass(frozen=True, slots=True)
class Draft:
    """What a caller wants to send. `to` is an address; the id is the request's."""

    message_id: UUID
    to: str
    body: str
    deadline: timedelta | None = None
    reply_to: UUID | None = None
    thread_id: UUID | None = None
    allow_secrets: bool = False


def reached(step: str, until: str) -> bool:
    """Whether a message at `step` need be waited for no longer: at an end, or at or above `until`."""
    if step in ENDS:
        return True
    return until in LADDER and LADDER.index(step) >= LADDER.index(until)


def check(draft: Draft) -> None:
    """Raise InvalidInput, MessageTooLarge or SecretInText when the draft cannot be sent to anybody."""
    size = len(draft.body.encode())
    if size > BODY_LIMIT:
        raise MessageTooLarge(why=f"it has {size:,} bytes; the limit is {BODY_LIMIT:,}")
    if not draft.body.strip():
        raise InvalidInput(
            "the message is empty", next_step="give it a text: -m TEXT, -f FILE, or - for standard input"
        )
    if "\x00" in draft.body:
        raise InvalidInput("the message holds a NUL character", why="no terminal can take one")
    if draft.deadline is not None and not timedelta(0) < draft.deadline <= LONGEST_DEADLINE:
        raise InvalidInput("the deadline is out of range", why="it lies between now and 30 days from now")
    if not draft.allow_secrets:
        secret_shapes.refuse(draft.body)


class Messages:
    """Messages of every tenant; each call names its caller's."""

    def __init__(self, database: Database, wakes: Wakes) -> None:
        self._database = database
        self._wakes = wakes

    async def send(self, draft: Draft, *, caller: Caller, tenant_id: UUID) -> MessageRow:
        """Queue `draft`; returns its receipt. The same id and payload again returns the receipt as it is now.

        Raises NotFound, Ambiguous, MessageReused, MessageTooLarge or InvalidInput.
        """
        check(draft)
        reached_place("controlplane.message-received")
        async with self._database.transaction() as connection:
            host_id: UUID | None = None
            try:
                seat = await addresses.one_seat(connection, tenant_id=tenant_id, address=draft.to)
            except (NotFound, Ambiguous):
                # The address may mean nobody any more; what was sent to it under this id was sent.
                if not await self._sent_before(connection, tenant_id, draft, caller):
                    raise
            else:
                host_id = await self._queue(connection, tenant_id, draft, caller, seat)
                if host_id is None and not await self._sent_before(connection, tenant_id, draft, caller):
                    raise NotFound(f"agent {draft.to!r} was just removed", next_step="mosaic agent ls")
        reached_place("controlplane.message-queued")
        if host_id is not None:
            self._wakes.tell(WakeKey.host(tenant_id, host_id), WakeKey.change(tenant_id))
        return await self.receipt(tenant_id=tenant_id, message_id=draft.message_id)

    async def _queue(
        self, connection: Connection, tenant_id: UUID, draft: Draft, caller: Caller, seat: Seat
    ) -> UUID | None:
        """Queue and audit a draft; returns its host, or None when the id is taken or the seat is gone."""
        digest = _digest(seat.agent_id, draft)
        host_id = await message_table.queue(
            connection,
            tenant_id=tenant_id,
            message=NewMessage(
                message_id=draft.message_id,
                sender_kind=caller.kind,
                sender_id=caller.id,
                sender_name=caller.name,
                recipient_id=seat.agent_id,
                body=draft.body,
                payload_digest=digest,
                deadline=draft.deadline or DEFAULT_DEADLINE,
                reply_to=draft.reply_to,
                thread_id=draft.thread_id,
            ),
        )
        if host_id is not None:
            await record(
                connection,
                tenant_id=tenant_id,
                caller_kind=caller.kind,
                caller_id=str(caller.id),
                caller_name=caller.name,
                peer_address=caller.peer_address,
                method="MessageService/Send",
                target=f"{seat.host}/{seat.name}",
                request_id=str(draft.message_id),
                detail={"bytes": str(len(draft.body.encode())), "sha256": digest, **_knowingly(draft)},
            )
        return host_id

    async def _sent_before(self, connection: Connection, tenant_id: UUID, draft: Draft, caller: Caller) -> bool:
        """Whether this caller has sent this draft already, also to a seat that is gone. Raises MessageReused."""
        kept = await message_table.identity(connection, tenant_id=tenant_id, message_id=draft.message_id)
        if kept is None:
            return False
        same = (caller.kind, caller.id, _digest(kept.recipient_id, draft))
        if same != (kept.sender_kind, kept.sender_id, kept.payload_digest) or not match_address(
            draft.to, [(kept.host, kept.name)]
        ):
            raise MessageReused(details={"message_id": str(draft.message_id)})
        return True

    async def receipt(self, *, tenant_id: UUID, message_id: UUID) -> MessageRow:
        """Return a message with its receipt. Raises NotFound."""
        async with self._database.connection() as connection:
            found = await message_table.receipts(connection, tenant_id=tenant_id, message_id=message_id, limit=1)
        if not found:
            raise NotFound(f"there is no message {message_id}", next_step="mosaic message ls")
        return found[0]

    async def find(self, *, tenant_id: UUID, prefix: str) -> MessageRow:
        """Return the message whose id is `prefix` or begins with it. Raises NotFound or Ambiguous."""
        digits = prefix.replace("-", "").lower()
        try:
            first, last = (UUID(hex=digits.ljust(32, fill)) for fill in "0f")
        except ValueError:
            raise NotFound(f"{prefix[:80]!r} is no message id", next_step="mosaic message ls") from None
        async with self._database.connection() as connection:
            ids = await message_table.by_prefix(connection, tenant_id=tenant_id, first=first, last=last)
        if not digits or not ids:
            raise NotFound(f"there is no message {prefix!r}", next_step="mosaic message ls")
        if len(ids) > 1:
            raise Ambiguous(
                f"{prefix!r} fits more than one message",
                why=", ".join(str(found) for found in ids[:5]),
                details={"candidates": " ".join(str(found) for found in ids[:5])},
            )
        return await self.receipt(tenant_id=tenant_id, message_id=ids[0])

    async def list(self, *, tenant_id: UUID, address: str, open_only: bool, limit: int) -> list[MessageRow]:
        """Return messages, newest first; of one agent when `address` is given."""
        async with self._database.connection() as connection:
            recipients = None
            if address:
                seat = await addresses.one_seat(connection, tenant_id=tenant_id, address=address)
                recipients = [seat.agent_id]
            return await message_table.receipts(
                connection, tenant_id=tenant_id, recipients=recipients, open_only=open_only, limit=limit
            )

    async def follow(self, *, tenant_id: UUID, message_id: UUID, until: str) -> AsyncIterator[MessageRow]:
        """Yield the receipt now and at every new step, until `reached(step, until)`."""
        seen = 0
        async with self._wakes.watching(WakeKey.message(tenant_id, message_id)) as wake:
            while True:
                found = await self.receipt(tenant_id=tenant_id, message_id=message_id)
                if len(found.steps) > seen:
                    seen = len(found.steps)
                    yield found
                if reached(found.step, until):
                    return
                await wait_for_wake(wake)


def _knowingly(draft: Draft) -> dict[str, str]:
    """Return what is written down of secrets that were sent knowingly: their kinds and lines."""
    found = secret_shapes.find(draft.body) if draft.allow_secrets else []
    return {"secrets_allowed": secret_shapes.told(found)} if found else {}


def _digest(recipient: UUID, draft: Draft) -> str:
    parts = (str(recipient), str(draft.reply_to or ""), str(draft.thread_id or ""), draft.body)
    return hashlib.sha256("\x00".join(parts).encode()).hexdigest()
