"""What peers do with cards. A part of FederationService."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from mosaic_framework.errors import InvalidInput
from mosaic_proto.v1 import backlog_pb2 as pb
from mosaic_proto.v1 import federation_pb2_grpc

from mosaic_controlplane.api import backlog_decode as decode
from mosaic_controlplane.api import backlog_encode as encode
from mosaic_controlplane.api.backlog_claims import completion_of, proposal_of, under_of
from mosaic_controlplane.api.encode import identifier, optional_identifier
from mosaic_controlplane.api.interceptor import caller_of
from mosaic_controlplane.backlog.backlog import Backlog
from mosaic_controlplane.backlog.standing import seen_by
from mosaic_controlplane.backlog.wishes import DEFAULT_LEASE, Wish
from mosaic_controlplane.federation.claims import PeerClaims, actor_of
from mosaic_controlplane.federation.speaker import speaker
from mosaic_controlplane.identity.caller import Caller
from mosaic_controlplane.identity.origin import current_origin
from mosaic_controlplane.register.card import CardRow
from mosaic_controlplane.register.card_claim import Actor, Taken

if TYPE_CHECKING:
    from grpc.aio import ServicerContext


class PeerClaimCalls(federation_pb2_grpc.FederationServiceServicer):
    """Claims, and what is written under them. In no request of a peer is a tenant or a cluster read."""

    _claims: PeerClaims
    _backlog: Backlog

    async def Claim(
        self, request: pb.ClaimRequest, context: ServicerContext[pb.ClaimRequest, pb.ClaimReply]
    ) -> pb.ClaimReply:
        caller, actor = _who(context, request)
        if request.card_id and request.max > 1:
            raise InvalidInput("one card is named, and more are wanted")
        wish = Wish(
            request_id=identifier(request.request_id, what="request id"),
            actor=actor,
            which=decode.which(request.filter, caller),
            card_id=request.card_id,
            most=request.max or 1,
            lease=decode.length(request, "lease") or DEFAULT_LEASE,
            wait=decode.length(request, "wait") or timedelta(0),
        )
        taken = await self._claims.claim(caller, wish)
        paused = not taken and await self._backlog.paused(caller.tenant_id)
        return pb.ClaimReply(claims=[_claim(one, actor) for one in taken], paused=paused)

    async def Renew(
        self, request: pb.RenewRequest, context: ServicerContext[pb.RenewRequest, pb.ClaimReply]
    ) -> pb.ClaimReply:
        caller, actor = _who(context, request)
        row = await self._claims.renew(
            caller,
            under_of(request, actor),
            lease=decode.length(request, "lease"),
            extend=decode.length(request, "extend"),
        )
        return pb.ClaimReply(claims=[_claim(Taken(UUID(int=0), 0, row, row.fence, row.changed_at), actor)])

    async def Propose(
        self, request: pb.ProposeRequest, context: ServicerContext[pb.ProposeRequest, pb.CardReply]
    ) -> pb.CardReply:
        caller, actor = _who(context, request)
        row = await self._backlog.transitions.propose(
            caller.tenant_id, under_of(request, actor), proposal_of(request), caller=caller
        )
        return _card(row, actor)

    async def Complete(
        self, request: pb.CompleteRequest, context: ServicerContext[pb.CompleteRequest, pb.CardReply]
    ) -> pb.CardReply:
        caller, actor = _who(context, request)
        completion = completion_of(actor, request, identifier(request.request_id, what="request id"), 0)
        return _card(await self._claims.complete(caller, completion), actor)

    async def Release(
        self, request: pb.ReleaseRequest, context: ServicerContext[pb.ReleaseRequest, pb.CardReply]
    ) -> pb.CardReply:
        caller, actor = _who(context, request)
        row = await self._backlog.transitions.release(
            caller.tenant_id,
            under_of(request, actor),
            reason=request.reason,
            spent=decode.spent(request.spent),
            caller=caller,
        )
        return _card(row, actor)

    async def Block(
        self, request: pb.BlockRequest, context: ServicerContext[pb.BlockRequest, pb.CardReply]
    ) -> pb.CardReply:
        caller, actor = _who(context, request)
        row = await self._backlog.transitions.block(
            caller.tenant_id,
            under_of(request, actor),
            reason=request.reason,
            spent=decode.spent(request.spent),
            caller=caller,
        )
        return _card(row, actor)


def _who(context: ServicerContext[Any, Any], request: Any) -> tuple[Caller, Actor]:
    caller = caller_of(context)
    claimant = optional_identifier(request.claimant_id, what="claimant id")
    return caller, actor_of(caller, claimant=claimant, speaker=speaker(caller, current_origin().on_behalf_of))


def _card(row: CardRow, actor: Actor) -> pb.CardReply:
    return pb.CardReply(card=_told(encode.card(seen_by(row, actor), tenant="")))


def _claim(taken: Taken, actor: Actor) -> pb.Claim:
    claim = encode.claim(taken, tenant="")
    if taken.card.holder_id != actor.id:  # of a request made again: it is somebody else's by now
        claim.card.CopyFrom(encode.card(seen_by(taken.card, actor), tenant=""))
    _told(claim.card)
    return claim


def _told(card: pb.Card) -> pb.Card:
    """Return a card as a peer is told it: what it says, and how it stands; not by whom it was made."""
    card.ClearField("made_by")
    card.idempotency_key = ""
    return card
