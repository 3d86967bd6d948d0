"""The calls by which cards are claimed, and those that are made under a claim."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from uuid import UUID

from mosaic_framework.errors import FleetError, InvalidInput
from mosaic_proto.v1 import backlog_pb2 as pb
from mosaic_proto.v1 import backlog_pb2_grpc

from mosaic_controlplane.api import backlog_decode as decode
from mosaic_controlplane.api import backlog_encode as encode
from mosaic_controlplane.api.backlog_desk import Desk, card_reply, desk_of, named
from mosaic_controlplane.api.encode import identifier
from mosaic_controlplane.api.interceptor import caller_of
from mosaic_controlplane.api.scope import tenant_of
from mosaic_controlplane.backlog.backlog import Backlog
from mosaic_controlplane.backlog.drafts import require
from mosaic_controlplane.backlog.errors import CardNotReady
from mosaic_controlplane.backlog.standing import resolve
from mosaic_controlplane.backlog.transitions import Proposal, Under
from mosaic_controlplane.backlog.wishes import Filter, Wish, check
from mosaic_controlplane.federation.working import PeerWork
from mosaic_controlplane.register.card import CardRow
from mosaic_controlplane.register.card_claim import Actor, Completion, Taken

if TYPE_CHECKING:
    from grpc.aio import ServicerContext

DONE_LIMIT = 100

Reply = TypeVar("Reply", pb.ClaimReply, pb.CardReply)


class _UnderClaim(Protocol):
    """What every request of a write under a claim has."""

    @property
    def request_id(self) -> str: ...
    @property
    def tenant(self) -> str: ...
    @property
    def claimant_id(self) -> str: ...
    @property
    def card_id(self) -> str: ...
    @property
    def fence(self) -> int: ...


class ClaimCalls(backlog_pb2_grpc.BacklogServiceServicer):
    """Claims, what is written under them, and work streams."""

    def __init__(self, backlog: Backlog, at_peers: PeerWork) -> None:
        self._backlog = backlog
        self._at_peers = at_peers

    async def Claim(
        self, request: pb.ClaimRequest, context: ServicerContext[pb.ClaimRequest, pb.ClaimReply]
    ) -> pb.ClaimReply:
        desk = desk_of(context, request.tenant, request.claimant_id)
        if request.cluster:
            return await self._at_peer("Claim", request, desk, pb.ClaimReply)
        card_id = request.card_id
        if card_id:
            async with self._backlog.database.connection() as connection:
                card_id = await resolve(connection, tenant_id=desk.tenant_id, card_id=card_id)
        wish = Wish(
            request_id=identifier(request.request_id, what="request id"),
            actor=desk.actor,
            which=decode.which(request.filter, desk.caller),
            card_id=card_id,
            most=request.max or 1,
            lease=decode.length(request, "lease") or desk.default_lease,
            wait=decode.length(request, "wait") or timedelta(0),
        )
        try:
            taken = await self._backlog.claiming.claim(desk.tenant_id, wish)
        except CardNotReady:
            await self._backlog.check_host(desk.caller)
            raise
        if not taken:
            await self._backlog.check_host(desk.caller)
        return pb.ClaimReply(
            claims=[encode.claim(one, tenant=desk.tenant) for one in taken],
            paused=not taken and await self._backlog.paused(desk.tenant_id),
        )

    async def Renew(
        self, request: pb.RenewRequest, context: ServicerContext[pb.RenewRequest, pb.ClaimReply]
    ) -> pb.ClaimReply:
        desk = desk_of(context, request.tenant, request.claimant_id)
        if request.cluster:
            return await self._at_peer("Renew", request, desk, pb.ClaimReply)
        row = await self._backlog.transitions.renew(
            desk.tenant_id,
            under_of(request, desk.actor),
            lease=decode.length(request, "lease"),
            extend=decode.length(request, "extend"),
        )
        renewed = Taken(UUID(int=0), 0, row, row.fence, row.changed_at)
        return pb.ClaimReply(claims=[encode.claim(renewed, tenant=desk.tenant)])

    async def Propose(
        self, request: pb.ProposeRequest, context: ServicerContext[pb.ProposeRequest, pb.CardReply]
    ) -> pb.CardReply:
        desk = desk_of(context, request.tenant, request.claimant_id)
        if request.cluster:
            return await self._at_peer("Propose", request, desk, pb.CardReply)
        row = await self._backlog.transitions.propose(
            desk.tenant_id, under_of(request, desk.actor), proposal_of(request)
        )
        return card_reply(row, desk.caller)

    async def Complete(
        self, request: pb.CompleteRequest, context: ServicerContext[pb.CompleteRequest, pb.CardReply]
    ) -> pb.CardReply:
        desk = desk_of(context, request.tenant, request.claimant_id)
        if request.cluster:
            return await self._at_peer("Complete", request, desk, pb.CardReply)
        request_id = identifier(request.request_id, what="request id")
        row = await self._backlog.complete(desk.tenant_id, completion_of(desk.actor, request, request_id, 0))
        return card_reply(row, desk.caller)

    async def Release(
        self, request: pb.ReleaseRequest, context: ServicerContext[pb.ReleaseRequest, pb.CardReply]
    ) -> pb.CardReply:
        desk = desk_of(context, request.tenant, request.claimant_id)
        if request.cluster:
            return await self._at_peer("Release", request, desk, pb.CardReply)
        row = await self._backlog.transitions.release(
            desk.tenant_id, under_of(request, desk.actor), reason=request.reason, spent=decode.spent(request.spent)
        )
        return card_reply(row, desk.caller)

    async def Block(
        self, request: pb.BlockRequest, context: ServicerContext[pb.BlockRequest, pb.CardReply]
    ) -> pb.CardReply:
        desk = desk_of(context, request.tenant, request.claimant_id)
        if request.cluster:
            return await self._at_peer("Block", request, desk, pb.CardReply)
        row = await self._backlog.transitions.block(
            desk.tenant_id, under_of(request, desk.actor), reason=request.reason, spent=decode.spent(request.spent)
        )
        return card_reply(row, desk.caller)

    async def Unblock(
        self, request: pb.UnblockRequest, context: ServicerContext[pb.UnblockRequest, pb.CardReply]
    ) -> pb.CardReply:
        desk = desk_of(context, request.tenant)
        under = Under(identifier(request.request_id, what="request id"), desk.actor, named(request.card_id))
        row = await self._backlog.transitions.unblock(desk.tenant_id, under, reason=request.reason, caller=desk.caller)
        return card_reply(row, desk.caller)

    async def Cancel(
        self, request: pb.CancelRequest, context: ServicerContext[pb.CancelRequest, pb.CardReply]
    ) -> pb.CardReply:
        desk = desk_of(context, request.tenant)
        under = Under(identifier(request.request_id, what="request id"), desk.actor, named(request.card_id))
        row = await self._backlog.transitions.cancel(desk.tenant_id, under, reason=request.reason, caller=desk.caller)
        return card_reply(row, desk.caller)

    async def Reclaim(
        self, request: pb.ReclaimRequest, context: ServicerContext[pb.ReclaimRequest, pb.ReclaimReply]
    ) -> pb.ReclaimReply:
        caller = caller_of(context)
        rows = await self._backlog.transitions.reclaim(
            tenant_of(caller, request.tenant),
            caller=caller,
            card_ids=list(request.card_ids),
            agent=request.agent,
            expired=request.expired,
            reason=request.reason,
            request_id=identifier(request.request_id, what="request id"),
        )
        return pb.ReclaimReply(cards=[encode.card(row, tenant=caller.tenant, bodies=False) for row in rows])

    async def Work(
        self, request_iterator: AsyncIterator[pb.WorkRequest], context: ServicerContext[pb.WorkRequest, pb.WorkReply]
    ) -> AsyncIterator[pb.WorkReply]:
        desk: Desk | None = None
        which = Filter()
        async for request in request_iterator:
            if desk is None:
                desk = desk_of(context, request.tenant, request.claimant_id)
                which = decode.which(request.filter, desk.caller)
            elif request.HasField("filter"):
                which = decode.which(request.filter, desk.caller)
            yield await self._work(desk, which, request)

    async def _at_peer(self, verb: str, request: Any, desk: Desk, _reply: type[Reply]) -> Reply:
        """Make the call at the cluster that it names. An agent's class is known here alone: it goes along."""
        waits = 0.0
        if verb == "Claim":
            which = decode.which(request.filter, desk.caller)
            if desk.caller.kind == "agent":
                setattr(request.filter, "class", desk.caller.role)
            check(Wish(UUID(int=0), desk.actor, which, most=request.max or 1))
            waits = (decode.length(request, "wait") or timedelta(0)).total_seconds()
        identifier(request.request_id, what="request id")
        reply: Reply = await self._at_peers.call(
            verb, request, desk.caller, tenant_id=desk.tenant_id, run_id=desk.actor.run_id, waits=waits, cards=_cards
        )
        return reply

    async def _work(self, desk: Desk, which: Filter, request: pb.WorkRequest) -> pb.WorkReply:
        """Answer one message of a work stream: what is done first, so that what waited for it can be next."""
        if len(request.done) > DONE_LIMIT:
            raise InvalidInput(f"{len(request.done)} cards done in one message", why=f"at most {DONE_LIMIT} may be")
        request_id = identifier(request.request_id, what="request id")
        reply = pb.WorkReply(request_id=request.request_id)
        # Places below zero: those from zero up are of the claims under the same request id.
        done = [completion_of(desk.actor, one, request_id, -1 - place) for place, one in enumerate(request.done)]
        wish = None
        if request.next:
            wish = Wish(
                request_id=request_id,
                actor=desk.actor,
                which=which,
                most=request.next,
                lease=decode.length(request, "lease") or desk.default_lease,
                wait=decode.length(request, "wait") or timedelta(0),
            )
        answers, taken = await self._backlog.work(desk.tenant_id, done, wish)
        reply.done.extend(_done(answer) for answer in answers)
        reply.claims.extend(encode.claim(one, tenant=desk.tenant) for one in taken)
        reply.paused = wish is not None and not taken and await self._backlog.paused(desk.tenant_id)
        return reply


def completion_of(actor: Actor, request: pb.CompleteRequest, request_id: UUID, place: int) -> Completion:
    """Return what a request says is done, at `place` of what `request_id` stands for. Raises InvalidInput."""
    return Completion(
        card_id=request.card_id,
        fence=_fence(request.fence),
        actor=actor,
        request_id=request_id,
        place=place,
        result=require(request.result, what="result", limit=decode.RESULT_LIMIT),
        head=require(request.head, what="head"),
        pull_request=require(request.pull_request, what="pull request"),
        evidence=decode.evidence(request.evidence),
        spent=decode.spent(request.spent),
    )


def _cards(reply: pb.ClaimReply | pb.CardReply) -> list[str]:
    """Return which cards a reply is of."""
    return [reply.card.id] if isinstance(reply, pb.CardReply) else [claim.card.id for claim in reply.claims]


def _done(answer: tuple[Completion, CardRow | FleetError]) -> pb.WorkReply.Done:
    asked, came_of_it = answer
    if isinstance(came_of_it, FleetError):
        return pb.WorkReply.Done(card_id=asked.card_id, error=encode.error(came_of_it))
    return pb.WorkReply.Done(card_id=came_of_it.card_id, status=encode.status(came_of_it.status))


def proposal_of(request: pb.ProposeRequest) -> Proposal:
    """Return what a request puts up for review. Raises InvalidInput."""
    return Proposal(
        branch=request.branch,
        head=request.head,
        pull_request=request.pull_request,
        evidence=decode.evidence(request.evidence),
        note=request.note,
        spent=decode.spent(request.spent),
    )


def under_of(request: _UnderClaim, actor: Actor) -> Under:
    """Return under which claim a request writes. Raises InvalidInput."""
    return Under(identifier(request.request_id, what="request id"), actor, request.card_id, _fence(request.fence))


def _fence(fence: int) -> int:
    if fence < 0:
        raise InvalidInput("the fence is out of range", why="a fence counts from 1")
    return fence
