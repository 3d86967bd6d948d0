"""What peers do with seats: messages and terminals. A part of FederationService."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from mosaic_proto.v1 import federation_pb2_grpc, terminal_pb2
from mosaic_proto.v1 import messages_pb2 as pb

from mosaic_controlplane.api.encode import identifier, receipt, step_name
from mosaic_controlplane.api.interceptor import caller_of
from mosaic_controlplane.api.messages import draft_of
from mosaic_controlplane.federation.receipts import told
from mosaic_controlplane.federation.receiving import PeerMessages
from mosaic_controlplane.federation.speaker import speaker
from mosaic_controlplane.federation.terminals import PeerTerminals
from mosaic_controlplane.identity.origin import current_origin

if TYPE_CHECKING:
    from grpc.aio import ServicerContext


class PeerSeatCalls(federation_pb2_grpc.FederationServiceServicer):
    """Messages to seats, and their terminals. In no request of a peer is a tenant, a cluster or a sender read."""

    _messages: PeerMessages
    _terminals: PeerTerminals

    async def Send(
        self, request: pb.SendRequest, context: ServicerContext[pb.SendRequest, pb.SendReply]
    ) -> pb.SendReply:
        caller = caller_of(context)
        named = speaker(caller, current_origin().on_behalf_of)
        return pb.SendReply(receipt=told(receipt(await self._messages.send(draft_of(request), caller, speaker=named))))

    async def Follow(
        self, request: pb.FollowRequest, context: ServicerContext[pb.FollowRequest, pb.Receipt]
    ) -> AsyncIterator[pb.Receipt]:
        message_id = identifier(request.message_id, what="message id")
        until = step_name(request.until) or "turn_ended"
        async for row in self._messages.follow(message_id, caller_of(context), until=until):
            yield told(receipt(row))

    async def CancelMessage(
        self, request: pb.CancelMessageRequest, context: ServicerContext[pb.CancelMessageRequest, pb.CancelMessageReply]
    ) -> pb.CancelMessageReply:
        message_id = identifier(request.message_id, what="message id")
        return pb.CancelMessageReply(receipt=told(receipt(await self._messages.cancel(message_id, caller_of(context)))))

    async def WatchTerminal(  # type: ignore[override]  # it writes by itself, so that a grant can end it
        self,
        request: terminal_pb2.WatchTerminalRequest,
        context: ServicerContext[terminal_pb2.WatchTerminalRequest, terminal_pb2.TerminalFrame],
    ) -> None:
        await self._terminals.watch(request, caller_of(context), context.write)
