"""Messages from here to agents of peers: kept, handed over under their own id, and followed where they are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from google.protobuf.duration_pb2 import Duration
from mosaic_framework.errors import Denied, FleetError, InvalidInput, LimitReached, NotFound, Unreachable
from mosaic_framework.steps import reached as reached_place
from mosaic_proto.v1 import federation_pb2_grpc
from mosaic_proto.v1 import messages_pb2 as pb

from mosaic_controlplane.federation.elsewhere import Elsewhere, NotReached, ask
from mosaic_controlplane.federation.outgoing import Outgoing, originator, speaker_of
from mosaic_controlplane.federation.receipts import receipt_of
from mosaic_controlplane.identity import auditing
from mosaic_controlplane.identity.caller import Caller
from mosaic_controlplane.mesh import message_ids
from mosaic_controlplane.mesh import messages as mesh_messages
from mosaic_controlplane.mesh.forwarding import Onward
from mosaic_controlplane.mesh.messages import DEFAULT_DEADLINE, ENDS, Draft, MessageReused, Messages
from mosaic_controlplane.mesh.wakes import Wakes, wait_for_wake
from mosaic_controlplane.register import peer as peer_table
from mosaic_controlplane.register import peer_message as table
from mosaic_controlplane.register.database import Connection, Database
from mosaic_controlplane.register.peer import PeerRow
from mosaic_controlplane.register.peer_message import OPEN, NewPeerMessage, PeerMessageRow
from mosaic_controlplane.register.replica import WakeKey

if TYPE_CHECKING:
    from mosaic_proto.v1.federation_pb2_grpc import FederationServiceAsyncStub

FRESH_SECONDS = 2.0
"""How long whoever asks for a receipt waits for what the peer says of it."""

Result = TypeVar("Result")


class PeerSends:
    """Messages of every tenant to its peers. `cluster`: what this one calls itself."""

    def __init__(self, database: Database, outgoing: Outgoing, wakes: Wakes, *, cluster: str) -> None:
        self._database = database
        self._outgoing = outgoing
        self._wakes = wakes
        self._cluster = cluster
        self._under_way: set[asyncio.Task[Any]] = set()

    async def send(
        self,
        to: Elsewhere,
        draft: Draft,
        caller: Caller,
        *,
        tenant_id: UUID,
        mode: pb.DeliveryMode.ValueType,
        queue: bool,
    ) -> pb.Receipt:
        """Hand a message over, and return its receipt; with `queue` it may wait here for a peer that is away.

        The same id and payload again returns the first receipt. Raises what the peer refuses with; PeerUnreachable;
        PeerRevoked; MessageReused; InvalidInput.
        """
        mesh_messages.check(draft)
        if draft.sender:
            raise InvalidInput(
                "to an agent of another cluster nobody sends in the name of somebody else",
                why="what goes there carries who really sent it",
                next_step="leave --from out",
            )
        request = pb.SendRequest(
            request_id=str(draft.message_id),
            to=to.address,
            body=draft.body,
            reply_to=str(draft.reply_to or ""),
            thread_id=str(draft.thread_id or ""),
            allow_secrets=draft.allow_secrets,
            mode=mode,
        )
        new = NewPeerMessage(
            tenant_id=tenant_id,
            message_id=draft.message_id,
            peer_id=to.peer.peer_id,
            caller=caller.key,
            address=to.address,
            request=request.SerializeToString(deterministic=True),
            origin=originator(caller, cluster=self._cluster).SerializeToString(deterministic=True),
            queued=queue,
            deadline=draft.deadline or DEFAULT_DEADLINE,
        )
        async with self._database.transaction() as connection:
            attempt = await table.add(connection, new)
            if attempt is not None:
                await auditing.record(
                    connection,
                    caller,
                    tenant_id=tenant_id,
                    method="MessageService/Send",
                    target=to.shown,
                    request_id=str(draft.message_id),
                    detail={"bytes": str(len(draft.body.encode())), "peer": str(to.peer.peer_id), "step": "kept here"},
                )
            else:
                attempt = await self._again(connection, new)
        reached_place("controlplane.peer-message-kept")
        row = await self.find(tenant_id=tenant_id, message_id=draft.message_id)
        if attempt is None:
            return receipt_of(row)
        try:
            return receipt_of(await self._whole(self.hand_over(row, attempt, by_sender=True)))
        except Unreachable:
            if not queue:
                raise
        self._wakes.tell(WakeKey.outbox(tenant_id))
        return receipt_of(await self.find(tenant_id=tenant_id, message_id=draft.message_id))

    async def _again(self, connection: Connection, new: NewPeerMessage) -> datetime | None:
        """Begin another attempt at what was sent before; None: there is nothing to be done. Raises MessageReused."""
        kept = await table.find(connection, tenant_id=new.tenant_id, message_id=new.message_id)
        if kept is None or (kept.peer_id, kept.caller, kept.request) != (new.peer_id, new.caller, new.request):
            raise MessageReused(details={"message_id": str(new.message_id)})
        return await table.offer(
            connection, tenant_id=new.tenant_id, message_id=new.message_id, by_sender=True, queued=new.queued
        )

    async def hand_over(self, row: PeerMessageRow, attempt: datetime, *, by_sender: bool = False) -> PeerMessageRow:
        """Give a message to its peer, in an attempt that has been written down; returns it as it is then.

        Whatever becomes of it is written down too. The peer takes an id once: nothing is sent twice by doing it again.
        Raises what the peer refuses with, PeerUnreachable, PeerRevoked.
        """
        key = {"tenant_id": row.tenant_id, "message_id": row.message_id}
        async with self._database.connection() as connection:
            peer = await self._peer(connection, row)
            left = await table.remaining(connection, **key)
        request = pb.SendRequest.FromString(row.request)
        request.deadline.CopyFrom(_duration(left.total_seconds()))

        async def send(stub: FederationServiceAsyncStub, onward: Onward) -> pb.SendReply:
            reached_place("controlplane.peer-message-offered")
            return await stub.Send(request, metadata=onward.metadata, timeout=onward.timeout)

        try:
            reply = await ask(self._outgoing, peer, speaker_of(row), send, request_id=str(row.message_id))
        except NotReached as error:
            async with self._database.connection() as connection:
                await table.not_reached(connection, **key, attempt=attempt, problem=error.told.what)
            self._tell(row)
            raise error.told from error
        except Unreachable as error:
            async with self._database.connection() as connection:
                await table.in_doubt(connection, **key, attempt=attempt, problem=error.what)
            error.details["in_doubt"] = "true"
            raise
        except LimitReached as error:
            write = table.refused if by_sender else table.not_reached
            async with self._database.connection() as connection:
                await write(connection, **key, attempt=attempt, problem=error.what)
            self._tell(row)
            raise
        except FleetError as error:
            async with self._database.connection() as connection:
                await table.refused(connection, **key, attempt=attempt, problem=_problem(error))
            self._tell(row)
            raise
        reached_place("controlplane.peer-message-handed")
        await self._keep(row, reply.receipt)
        reached_place("controlplane.peer-message-recorded")
        return await self.find(**key)

    async def settle(self, row: PeerMessageRow) -> None:
        """Find out how far a message is that the peer has, or that may not be offered again. Raises as `hand_over`."""
        try:
            await self._keep(row, await self._asked(row))
        except NotReached as error:
            raise error.told from error
        except NotFound:
            await self._not_known(row)

    async def fresh(self, row: PeerMessageRow) -> PeerMessageRow:
        """Return a message as its peer says now; as it was said last, when the peer does not answer soon."""
        if row.state != "handed" or _step(receipt_of(row)) in ENDS:
            return row
        try:
            async with asyncio.timeout(FRESH_SECONDS):
                return await self._keep(row, await self._asked(row))
        except NotFound:
            await self._not_known(row)
            return await self.find(tenant_id=row.tenant_id, message_id=row.message_id)
        except (TimeoutError, NotReached, FleetError):
            return row

    async def _not_known(self, row: PeerMessageRow) -> None:
        """Write down that the peer does not know a message: it was never given it, or has forgotten it."""
        key = {"tenant_id": row.tenant_id, "message_id": row.message_id}
        async with self._database.connection() as connection:
            if row.state == "handed":
                problem = f"cluster {row.peer} does not know it any more: its register was put back to before it"
                await table.forgotten(connection, **key, problem=problem)
            else:
                problem = f"cluster {row.peer} never got it"
                await table.refused(connection, **key, attempt=row.tried_at, problem=problem)
        self._tell(row)

    async def _asked(self, row: PeerMessageRow) -> pb.Receipt:
        """Return the receipt of a message as its peer has it. Raises what the peer says, NotReached."""

        async def follow(stub: FederationServiceAsyncStub, onward: Onward) -> pb.Receipt:
            call = stub.Follow(
                pb.FollowRequest(message_id=str(row.message_id)), metadata=onward.metadata, timeout=onward.timeout
            )
            try:
                async for receipt in call:
                    return receipt
            finally:
                call.cancel()
            raise NotFound("the peer said nothing of it")

        async with self._database.connection() as connection:
            peer = await self._peer(connection, row)
        return await ask(self._outgoing, peer, speaker_of(row), follow, request_id="")

    async def follow(self, *, tenant_id: UUID, message_id: UUID, until: str) -> AsyncIterator[pb.Receipt]:
        """Yield the receipt now and at every step, here and then at the peer. Raises NotFound, PeerUnreachable."""
        shown: tuple[str, str] | None = None
        async with self._wakes.watching(WakeKey.message(tenant_id, message_id)) as wake:
            while (row := await self.find(tenant_id=tenant_id, message_id=message_id)).state in OPEN:
                if (row.state, row.problem) != shown:
                    shown = (row.state, row.problem)
                    yield receipt_of(row)
                await wait_for_wake(wake)
        receipt = receipt_of(row)
        yield receipt
        if row.state != "handed" or mesh_messages.reached(_step(receipt), until):
            return
        async with self._database.connection() as connection:
            peer = await self._peer(connection, row)
        request = pb.FollowRequest(
            message_id=str(message_id), until=pb.MessageStep.Value(f"MESSAGE_STEP_{until.upper()}")
        )
        async with self._outgoing.to(peer, speaker_of(row)) as onward:
            stub: FederationServiceAsyncStub = federation_pb2_grpc.FederationServiceStub(onward.channel)
            async for newer in onward.replies(stub.Follow(request, metadata=onward.metadata)):
                yield receipt_of(await self._keep(row, newer))

    async def cancel(self, *, tenant_id: UUID, message_id: UUID, caller: Caller) -> pb.Receipt:
        """Take a message back: here while it waits, else at its peer. Raises as Messages.cancel, PeerUnreachable."""
        row = await self.find(tenant_id=tenant_id, message_id=message_id)
        if caller.kind == "agent" and row.caller != caller.key:
            raise Denied("this message is not yours", why="an agent takes back only what it has sent itself")
        reason = f"cancelled by {caller.name}"
        if row.state in ("failed", "expired", "cancelled"):
            return receipt_of(row)
        if row.state == "waiting" and await self._cancelled(row, caller, reason):
            return receipt_of(await self.find(tenant_id=tenant_id, message_id=message_id))
        request = pb.CancelMessageRequest(message_id=str(message_id))

        async def cancel(stub: FederationServiceAsyncStub, onward: Onward) -> pb.CancelMessageReply:
            return await stub.CancelMessage(request, metadata=onward.metadata, timeout=onward.timeout)

        async with self._database.connection() as connection:
            peer = await self._peer(connection, row)
        try:
            reply = await ask(self._outgoing, peer, caller, cancel, request_id="")
        except NotReached as error:
            raise error.told from error
        except NotFound:  # and it will not take it any more
            if row.state == "handed" or not await self._cancelled(row, caller, reason, peer_has_it_not=True):
                raise
            return receipt_of(await self.find(tenant_id=tenant_id, message_id=message_id))
        async with self._database.connection() as connection:
            await self._record_cancel(connection, row, caller, step=_step(reply.receipt))
        return receipt_of(await self._keep(row, reply.receipt))

    async def _cancelled(
        self, row: PeerMessageRow, caller: Caller, reason: str, *, peer_has_it_not: bool = False
    ) -> bool:
        async with self._database.transaction() as connection:
            done = await table.cancel(
                connection,
                tenant_id=row.tenant_id,
                message_id=row.message_id,
                reason=reason,
                peer_has_it_not=peer_has_it_not,
            )
            if done:
                await self._record_cancel(connection, row, caller, step="cancelled")
        if done:
            self._tell(row)
        return done

    async def _record_cancel(self, connection: Connection, row: PeerMessageRow, caller: Caller, *, step: str) -> None:
        await auditing.record(
            connection,
            caller,
            tenant_id=row.tenant_id,
            method="MessageService/Cancel",
            target=str(row.message_id),
            detail={"step": step, "peer": str(row.peer_id)},
        )

    async def find(self, *, tenant_id: UUID, message_id: UUID) -> PeerMessageRow:
        """Return a message to a peer. Raises NotFound."""
        async with self._database.connection() as connection:
            row = await table.find(connection, tenant_id=tenant_id, message_id=message_id)
        if row is None:
            raise NotFound(f"there is no message {message_id}", next_step="mosaic message ls")
        return row

    async def has(self, *, tenant_id: UUID, message_id: UUID) -> bool:
        """Whether a message of that id went to a peer."""
        async with self._database.connection() as connection:
            return await table.find(connection, tenant_id=tenant_id, message_id=message_id) is not None

    async def named(self, own: Messages, *, tenant_id: UUID, prefix: str) -> UUID | None:
        """Return the message to a peer that a prefix means; None: there is none. Raises Ambiguous, as to `own` too."""
        first, last = message_ids.id_range(prefix)
        async with self._database.connection() as connection:
            found = await table.by_prefix(connection, tenant_id=tenant_id, first=first, last=last)
        if not found:
            return None
        return message_ids.one_of(prefix, [*found, *await own.by_prefix(tenant_id=tenant_id, prefix=prefix)])

    async def newest(
        self, *, tenant_id: UUID, limit: int, to: Elsewhere | None = None, open_only: bool = False
    ) -> list[pb.Receipt]:
        """Return the receipts of the newest messages to peers, newest first; `to` one agent of one alone."""
        async with self._database.connection() as connection:
            rows = await table.newest(
                connection,
                tenant_id=tenant_id,
                limit=limit,
                open_only=open_only,
                peer_id=to.peer.peer_id if to else None,
                address=to.address if to else "",
            )
        return [receipt_of(row) for row in rows]

    async def _keep(self, row: PeerMessageRow, receipt: pb.Receipt) -> PeerMessageRow:
        """Write down what the peer says of a message, and return the message."""
        async with self._database.connection() as connection:
            await table.handed(
                connection,
                tenant_id=row.tenant_id,
                message_id=row.message_id,
                receipt=receipt.SerializeToString(),
                steps=len(receipt.steps),
                ended=_step(receipt) in ENDS,
            )
        self._tell(row)
        return await self.find(tenant_id=row.tenant_id, message_id=row.message_id)

    async def _peer(self, connection: Connection, row: PeerMessageRow) -> PeerRow:
        found = await peer_table.find(connection, row.peer_id)
        if found is None:
            raise NotFound(f"cluster {row.peer} is not known any more", next_step="mosaic peer ls")
        return found

    def _tell(self, row: PeerMessageRow) -> None:
        self._wakes.tell(WakeKey.message(row.tenant_id, row.message_id), WakeKey.change(row.tenant_id))

    async def _whole(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Carry out `work` to its end, also when the caller is gone by then."""
        task = asyncio.create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._done)
        return await asyncio.shield(task)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._under_way.discard(task)
        if not task.cancelled():
            task.exception()  # told to the caller, or written down beside the message


def _problem(error: FleetError) -> str:
    return f"{error.what} ({type(error).code})" + (f": {error.why}" if error.why else "")


def _step(receipt: pb.Receipt) -> str:
    return pb.MessageStep.Name(receipt.step).removeprefix("MESSAGE_STEP_").lower()


def _duration(seconds: float) -> Duration:
    milliseconds = max(1, int(seconds * 1000))
    return Duration(seconds=milliseconds // 1000, nanos=milliseconds % 1000 * 1_000_000)
