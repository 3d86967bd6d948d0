"""Messages: queue one for an agent, follow its receipt, list them."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from mosaic_framework import secret_shapes
from mosaic_framework.errors import (
    RETRY_AFTER,
    Ambiguous,
    Conflict,
    Denied,
    FleetError,
    InvalidInput,
    LimitReached,
    NotFound,
    TooLarge,
)
from mosaic_framework.names import match_address, split_cluster
from mosaic_framework.steps import reached as reached_place
from mosaic_framework.typed_text import left_out

from mosaic_controlplane.identity import auditing
from mosaic_controlplane.identity.caller import Caller
from mosaic_controlplane.mesh import addresses, message_ids
from mosaic_controlplane.mesh.wakes import Wakes, wait_for_wake
from mosaic_controlplane.mesh.watch import MessagesOf, Watched, watch
from mosaic_controlplane.register import agent as agent_table
from mosaic_controlplane.register import message as message_table
from mosaic_controlplane.register import peer_message
from mosaic_controlplane.register.agent import Seat
from mosaic_controlplane.register.change import Cursor
from mosaic_controlplane.register.database import Connection, Database
from mosaic_controlplane.register.message import MessageRow, NewMessage
from mosaic_controlplane.register.replica import WakeKey

BODY_LIMIT = 256 * 1024
INTERRUPT_ONLY = "interrupt_only"
DEFAULT_DEADLINE = timedelta(hours=24)
LONGEST_DEADLINE = timedelta(days=30)
ENDS = frozenset({"turn_ended", "unknown", "failed", "expired", "cancelled"})
_NOT_TYPED = ("queued", "dispatched", "cancelled")
LADDER = ("queued", "dispatched", "typed", "submitted", "accepted", "turn_started", "turn_ended")


class MessageTooLarge(TooLarge):
    """The message is larger than 256 KiB."""

    code = "message-too-large"
    hint = "put the text in a file that the agent can read, and send its path"


class MessageReused(Conflict):
    """This message id was already used for another message."""

    code = "message-reused"
    hint = "send it again without a fixed id"


class QueueFull(LimitReached):
    """The agent's queue is full."""

    code = "queue-full"


class NotYourName(Denied):
    """You may not send in this name."""

    code = "not-your-name"
    hint = "leave --from out; only an admin sends in an agent's name"


class TooLate(Conflict):
    """The message is past the point at which it could be taken back."""

    code = "too-late"


@dataclass(frozen=True, slots=True)
class Sender:
    """In whose name a message goes."""

    kind: str
    id: UUID
    name: str

    @classmethod
    def of(cls, caller: Caller) -> Sender:
        """Return the caller's own name."""
        return cls(caller.kind, caller.id, caller.name)


@dataclass(frozen=True, slots=True)
class Draft:
    """What a caller wants to send. `to` is an address; the id is the request's."""

    message_id: UUID
    to: str
    body: str
    deadline: timedelta | None = None
    reply_to: UUID | None = None
    thread_id: UUID | None = None
    mode: str = "send"
    sender: str = ""
    """an agent's address, in whose name the caller sends; empty: the caller's own"""
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
    if draft.mode == INTERRUPT_ONLY:
        if draft.body:
            raise InvalidInput(
                "an interrupt alone has no text", next_step="mosaic agent send AGENT --interrupt -m TEXT"
            )
    elif not draft.body.strip():
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

    def __init__(self, database: Database, wakes: Wakes, *, queue_limit: int = message_table.QUEUE_LIMIT) -> None:
        self._queue_limit = queue_limit
        self._database = database
        self._wakes = wakes

    async def send(
        self,
        draft: Draft,
        *,
        caller: Caller,
        tenant_id: UUID,
        sender: Sender | None = None,
        find: Callable[[Connection], Awaitable[Seat]] | None = None,
    ) -> MessageRow:
        """Queue `draft`; returns its receipt. The same id and payload again returns the receipt as it is now.

        `sender`: in whose name it goes, when that is settled; `find`: finds the seat, for who may not send to all.
        Raises NotFound, Ambiguous, Denied, MessageReused, MessageTooLarge, QueueFull or InvalidInput.
        """
        check(draft)
        reached_place("controlplane.message-received")
        async with self._database.transaction() as connection:
            host_id: UUID | None = None
            name = sender or await self._sender(connection, tenant_id, draft, caller)
            try:
                if find is not None:
                    seat = await find(connection)
                else:
                    seat = await addresses.one_seat(connection, tenant_id=tenant_id, address=draft.to)
            except (NotFound, Ambiguous, Denied):
                # The address may mean nobody any more; what was sent to it under this id was sent.
                if not await self._sent_before(connection, tenant_id, draft, name):
                    raise
            else:
                sent_by = caller.name if sender is None and name != Sender.of(caller) else ""
                host_id = await self._queue(connection, tenant_id, draft, caller, seat, name, sent_by)
                if host_id is None and not await self._sent_before(connection, tenant_id, draft, name):
                    raise await self._refusal(connection, tenant_id, draft, seat)
        reached_place("controlplane.message-queued")
        if host_id is not None:
            self._wakes.tell(WakeKey.host(tenant_id, host_id), WakeKey.change(tenant_id))
        return await self.receipt(tenant_id=tenant_id, message_id=draft.message_id)

    async def _queue(
        self,
        connection: Connection,
        tenant_id: UUID,
        draft: Draft,
        caller: Caller,
        seat: Seat,
        sender: Sender,
        sent_by: str,
    ) -> UUID | None:
        """Queue and audit a draft; returns its host, or None when the id is taken, the seat gone or its queue full."""
        digest = _digest(seat.agent_id, draft)
        host_id = await message_table.queue(
            connection,
            tenant_id=tenant_id,
            message=NewMessage(
                message_id=draft.message_id,
                sender_kind=sender.kind,
                sender_id=sender.id,
                sender_name=sender.name,
                recipient_id=seat.agent_id,
                body=draft.body,
                payload_digest=digest,
                deadline=draft.deadline or DEFAULT_DEADLINE,
                reply_to=draft.reply_to,
                thread_id=draft.thread_id,
                mode=draft.mode,
                sent_by=sent_by,
                stripped=left_out(draft.body),
            ),
            queue_limit=self._queue_limit,
        )
        if host_id is not None:
            await auditing.record(
                connection,
                caller,
                tenant_id=tenant_id,
                method=f"{_service(caller)}/Send",
                target=f"{seat.host}/{seat.name}",
                request_id=str(draft.message_id),
                detail={
                    "bytes": str(len(draft.body.encode())),
                    "sha256": digest,
                    "deadline_seconds": f"{(draft.deadline or DEFAULT_DEADLINE).total_seconds():.0f}",
                    **_knowingly(draft),
                },
            )
        return host_id

    async def _sent_before(self, connection: Connection, tenant_id: UUID, draft: Draft, sender: Sender) -> bool:
        """Whether this sender has sent this draft already, also to a seat that is gone. Raises MessageReused."""
        kept = await message_table.identity(connection, tenant_id=tenant_id, message_id=draft.message_id)
        if kept is None:
            return False
        same = (sender.kind, sender.id, _digest(kept.recipient_id, draft))
        if same != (kept.sender_kind, kept.sender_id, kept.payload_digest) or not match_address(
            split_cluster(draft.to)[1], [(kept.host, kept.name)]
        ):
            raise MessageReused(details={"message_id": str(draft.message_id)})
        return True

    async def _sender(self, connection: Connection, tenant_id: UUID, draft: Draft, caller: Caller) -> Sender:
        """Return in whose name a draft goes. Raises NotYourName, NotFound or Ambiguous."""
        if not draft.sender:
            return Sender.of(caller)
        seat = await addresses.one_seat(connection, tenant_id=tenant_id, address=draft.sender)
        if (caller.kind, caller.id) != ("agent", seat.agent_id) and (caller.kind, caller.role) != ("operator", "admin"):
            raise NotYourName(f"you may not send in the name of {seat.host}/{seat.name}")
        return Sender("agent", seat.agent_id, seat.name)

    async def _refusal(self, connection: Connection, tenant_id: UUID, draft: Draft, seat: Seat) -> FleetError:
        """Return why a draft with a new id was not queued."""
        seats = await agent_table.addresses(connection, tenant_id=tenant_id)
        if all(one.agent_id != seat.agent_id for one in seats):
            return NotFound(f"agent {draft.to!r} was just removed", next_step="mosaic agent ls")
        if await peer_message.find(connection, tenant_id=tenant_id, message_id=draft.message_id) is not None:
            return MessageReused(details={"message_id": str(draft.message_id)})
        return QueueFull(
            f"the queue of {seat.host}/{seat.name} is full",
            why=f"{self._queue_limit:,} messages wait to be typed there",
            next_step=f"see what it waits for: mosaic message ls {seat.host}/{seat.name} --open; or try again in 10 s",
            details={RETRY_AFTER: "10000"},
        )

    async def cancel(self, *, tenant_id: UUID, prefix: str, caller: Caller) -> MessageRow:
        """Take a message back if it is not typed yet; one that its host was given is asked for there.

        Raises NotFound, Ambiguous, Denied (an agent, of what it did not send), or TooLate.
        """
        found = await self.find(tenant_id=tenant_id, prefix=prefix)
        if caller.kind == "agent" and (found.sender_kind, found.sender_id) != ("agent", caller.id):
            raise Denied("this message is not yours", why="an agent takes back only what it has sent itself")
        async with self._database.transaction() as connection:
            outcome = await message_table.cancel(
                connection, tenant_id=tenant_id, message_id=found.message_id, reason=f"cancelled by {caller.name}"
            )
            if outcome is None:
                raise NotFound(f"there is no message {prefix!r}", next_step="mosaic message ls")
            step, asked = outcome
            if step in _NOT_TYPED:  # else nothing is changed, and the failed call is recorded as such
                await auditing.record(
                    connection,
                    caller,
                    tenant_id=tenant_id,
                    method=f"{_service(caller)}/{'CancelMessage' if caller.kind == 'peer' else 'Cancel'}",
                    target=str(found.message_id),
                    detail={"step": step},
                )
        now = await self.receipt(tenant_id=tenant_id, message_id=found.message_id)
        if step not in _NOT_TYPED:
            raise TooLate(
                f"message {found.message_id} is {now.step}: it cannot be taken back",
                why=now.reason,
                next_step=f"mosaic message show {found.message_id}",
                details={"message_id": str(found.message_id), "step": now.step},
            )
        if asked and now.host_id is not None:
            self._wakes.tell(WakeKey.host(tenant_id, now.host_id))
        self._wakes.tell(WakeKey.message(tenant_id, found.message_id), WakeKey.change(tenant_id))
        return now

    async def receipt(self, *, tenant_id: UUID, message_id: UUID) -> MessageRow:
        """Return a message with its receipt. Raises NotFound."""
        async with self._database.connection() as connection:
            found = await message_table.receipts(connection, tenant_id=tenant_id, message_id=message_id, limit=1)
        if not found:
            raise NotFound(f"there is no message {message_id}", next_step="mosaic message ls")
        return found[0]

    async def find(self, *, tenant_id: UUID, prefix: str) -> MessageRow:
        """Return the message whose id is `prefix` or begins with it. Raises NotFound or Ambiguous."""
        return await self.receipt(
            tenant_id=tenant_id,
            message_id=message_ids.one_of(prefix, await self.by_prefix(tenant_id=tenant_id, prefix=prefix)),
        )

    async def by_prefix(self, *, tenant_id: UUID, prefix: str) -> list[UUID]:
        """Return up to six messages whose id is `prefix` or begins with it. Raises NotFound for what is no id."""
        first, last = message_ids.id_range(prefix)
        async with self._database.connection() as connection:
            return await message_table.by_prefix(connection, tenant_id=tenant_id, first=first, last=last)

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

    async def watch(
        self,
        *,
        tenant_id: UUID,
        address: str,
        newest: int,
        register_epoch: UUID,
        cursor: str,
        at_peer: tuple[UUID, str] | None = None,
    ) -> AsyncIterator[Watched]:
        """Yield the newest messages, of one agent when `address` is given, then every step; or all after `cursor`.

        `at_peer`: of one agent of a peer (the pairing's id, host/agent), in place of `address`.
        """
        recipient: UUID | None = None
        if address:
            async with self._database.connection() as connection:
                seat = await addresses.one_seat(connection, tenant_id=tenant_id, address=address)
            recipient = seat.agent_id
        stream = watch(
            self._database,
            self._wakes,
            tenant_id=tenant_id,
            register_epoch=register_epoch,
            resume=Cursor.parse(cursor) if cursor else None,
            subject=MessagesOf(tenant_id, recipient, newest, at_peer),
        )
        async for watched in stream:
            yield watched

    async def follow(self, *, tenant_id: UUID, message_id: UUID, until: str) -> AsyncIterator[MessageRow]:
        """Yield the receipt now, at every new step and whenever it waits for something else, until `reached`."""
        seen: tuple[int, str] | None = None
        async with self._wakes.watching(WakeKey.message(tenant_id, message_id)) as wake:
            while True:
                found = await self.receipt(tenant_id=tenant_id, message_id=message_id)
                if (len(found.steps), found.waits_for) != seen:
                    seen = (len(found.steps), found.waits_for)
                    yield found
                if reached(found.step, until):
                    return
                await wait_for_wake(wake)


def _knowingly(draft: Draft) -> dict[str, str]:
    """Return what is written down of secrets that were sent knowingly: their kinds and lines."""
    found = secret_shapes.find(draft.body) if draft.allow_secrets else []
    return {"secrets_allowed": secret_shapes.told(found)} if found else {}


def _service(caller: Caller) -> str:
    """Return the service at which a caller sends."""
    return "FederationService" if caller.kind == "peer" else "MessageService"


def _digest(recipient: UUID, draft: Draft) -> str:
    parts = [str(recipient), str(draft.reply_to or ""), str(draft.thread_id or ""), draft.body]
    if draft.mode != "send":
        parts.append(draft.mode)
    return hashlib.sha256("\x00".join(parts).encode()).hexdigest()
