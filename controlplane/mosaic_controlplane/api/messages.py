"""MessageService: send, follow, show, list, cancel. Policy: policy.yaml."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from mosaic_framework.errors import InvalidInput
from mosaic_proto.v1 import messages_pb2 as pb
from mosaic_proto.v1 import messages_pb2_grpc

from mosaic_controlplane.api.encode import delivery_mode_name, identifier, optional_identifier, receipt, step_name
from mosaic_controlplane.api.interceptor import caller_of
from mosaic_controlplane.api.scope import tenant_of
from mosaic_controlplane.federation.elsewhere import of_peer
from mosaic_controlplane.federation.receipts import receipt_of
from mosaic_controlplane.federation.sending import PeerSends
from mosaic_controlplane.mesh.messages import Draft, Messages
from mosaic_controlplane.mesh.watch import Complete, Restart
from mosaic_controlplane.register.database import Database
from mosaic_controlplane.register.message import MessageRow
from mosaic_controlplane.register.peer_message import PeerMessageRow

if TYPE_CHECKING:
    from grpc.aio import ServicerContext

_LIST_DEFAULT = 50
_LIST_LIMIT = 1000


class MessageService(messages_pb2_grpc.MessageServiceServicer):
    """Messages to agents, and what is known of their delivery."""

    def __init__(self, database: Database, messages: Messages, at_peers: PeerSends, register_epoch: UUID) -> None:
        self._database = database
        self._messages = messages
        self._at_peers = at_peers
        self._register_epoch = register_epoch

    async def Send(
        self, request: pb.SendRequest, context: ServicerContext[pb.SendRequest, pb.SendReply]
    ) -> pb.SendReply:
        caller = caller_of(context)
        draft = draft_of(request)
        tenant_id = tenant_of(caller, request.tenant)
        elsewhere = await of_peer(self._database, tenant_id=tenant_id, address=request.to)
        if elsewhere is not None:
            sent = await self._at_peers.send(
                elsewhere, draft, caller, tenant_id=tenant_id, mode=request.mode, queue=request.queue_here
            )
            return pb.SendReply(receipt=sent)
        row = await self._messages.send(draft, caller=caller, tenant_id=tenant_id)
        return pb.SendReply(receipt=receipt(row))

    async def Follow(
        self, request: pb.FollowRequest, context: ServicerContext[pb.FollowRequest, pb.Receipt]
    ) -> AsyncIterator[pb.Receipt]:
        tenant_id = tenant_of(caller_of(context), request.tenant)
        message_id = identifier(request.message_id, what="message id")
        until = step_name(request.until) or "turn_ended"
        if await self._at_peers.has(tenant_id=tenant_id, message_id=message_id):
            async for told in self._at_peers.follow(tenant_id=tenant_id, message_id=message_id, until=until):
                yield told
            return
        async for row in self._messages.follow(tenant_id=tenant_id, message_id=message_id, until=until):
            yield receipt(row)

    async def Show(
        self, request: pb.ShowMessageRequest, context: ServicerContext[pb.ShowMessageRequest, pb.ShowMessageReply]
    ) -> pb.ShowMessageReply:
        tenant_id = tenant_of(caller_of(context), request.tenant)
        at_peer = await self._at_peers.named(self._messages, tenant_id=tenant_id, prefix=request.message_id)
        if at_peer is not None:
            kept = await self._at_peers.fresh(await self._at_peers.find(tenant_id=tenant_id, message_id=at_peer))
            said = pb.SendRequest.FromString(kept.request)
            return pb.ShowMessageReply(
                receipt=receipt_of(kept), body=said.body, reply_to=said.reply_to, thread_id=said.thread_id
            )
        row = await self._messages.find(tenant_id=tenant_id, prefix=request.message_id)
        return pb.ShowMessageReply(
            receipt=receipt(row),
            body=row.body,
            reply_to=str(row.reply_to or ""),
            thread_id=str(row.thread_id or ""),
        )

    async def Cancel(
        self, request: pb.CancelMessageRequest, context: ServicerContext[pb.CancelMessageRequest, pb.CancelMessageReply]
    ) -> pb.CancelMessageReply:
        caller = caller_of(context)
        tenant_id = tenant_of(caller, request.tenant)
        at_peer = await self._at_peers.named(self._messages, tenant_id=tenant_id, prefix=request.message_id)
        if at_peer is not None:
            told = await self._at_peers.cancel(tenant_id=tenant_id, message_id=at_peer, caller=caller)
            return pb.CancelMessageReply(receipt=told)
        row = await self._messages.cancel(tenant_id=tenant_id, prefix=request.message_id, caller=caller)
        return pb.CancelMessageReply(receipt=receipt(row))

    async def List(
        self, request: pb.ListMessagesRequest, context: ServicerContext[pb.ListMessagesRequest, pb.ListMessagesReply]
    ) -> pb.ListMessagesReply:
        tenant_id = tenant_of(caller_of(context), request.tenant)
        limit = min(request.limit, _LIST_LIMIT) if request.limit > 0 else _LIST_DEFAULT
        elsewhere = await of_peer(self._database, tenant_id=tenant_id, address=request.agent)
        receipts: list[pb.Receipt] = []
        if elsewhere is not None or not request.agent:
            receipts = await self._at_peers.newest(
                tenant_id=tenant_id, limit=limit, to=elsewhere, open_only=request.open_only
            )
        if elsewhere is None:
            rows = await self._messages.list(
                tenant_id=tenant_id, address=request.agent, open_only=request.open_only, limit=limit
            )
            receipts += [receipt(row) for row in rows]
        receipts.sort(key=lambda one: (one.created_at.seconds, one.created_at.nanos), reverse=True)
        return pb.ListMessagesReply(receipts=receipts[:limit])

    async def Watch(
        self,
        request: pb.WatchMessagesRequest,
        context: ServicerContext[pb.WatchMessagesRequest, pb.WatchMessagesEvent],
    ) -> AsyncIterator[pb.WatchMessagesEvent]:
        tenant_id = tenant_of(caller_of(context), request.tenant)
        elsewhere = await of_peer(self._database, tenant_id=tenant_id, address=request.agent)
        async for watched in self._messages.watch(
            tenant_id=tenant_id,
            address="" if elsewhere is not None else request.agent,
            at_peer=None if elsewhere is None else (elsewhere.peer.peer_id, elsewhere.address),
            newest=min(request.limit, _LIST_LIMIT) if request.limit > 0 else _LIST_DEFAULT,
            register_epoch=self._register_epoch,
            cursor=request.cursor,
        ):
            event = pb.WatchMessagesEvent(cursor=str(watched.cursor or ""))
            match watched.what:
                case MessageRow():
                    event.receipt.CopyFrom(receipt(watched.what))
                case PeerMessageRow():
                    event.receipt.CopyFrom(receipt_of(watched.what))
                case Complete():
                    event.complete = watched.what.snapshot
                case Restart():
                    event.reset = watched.what.reason
            yield event


def draft_of(request: pb.SendRequest) -> Draft:
    """Return what a request wants to send. Raises InvalidInput."""
    return Draft(
        message_id=identifier(request.request_id, what="request id"),
        to=request.to,
        body=request.body,
        deadline=deadline_of(request),
        reply_to=optional_identifier(request.reply_to, what="reply_to"),
        thread_id=optional_identifier(request.thread_id, what="thread_id"),
        mode=delivery_mode_name(request.mode),
        sender=getattr(request, "from"),  # a word of Python's
        allow_secrets=request.allow_secrets,
    )


def deadline_of(request: pb.SendRequest) -> timedelta | None:
    """Return how long the message may wait; None: not said. Raises InvalidInput beyond what a clock holds."""
    try:
        return request.deadline.ToTimedelta() if request.HasField("deadline") else None
    except (OverflowError, ValueError):
        raise InvalidInput("the deadline is out of range") from None
