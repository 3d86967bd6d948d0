"""BacklogService: cards made, claimed, completed, shown. Policy: policy.yaml."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

from mosaic_framework import wire
from mosaic_framework.errors import FleetError, InvalidInput, TooLarge
from mosaic_proto.v1 import backlog_pb2 as pb
from mosaic_proto.v1 import backlog_pb2_grpc

from mosaic_controlplane.api import backlog_decode as decode
from mosaic_controlplane.api import backlog_encode as encode
from mosaic_controlplane.api.encode import identifier, optional_identifier, timestamp
from mosaic_controlplane.api.failures import metadata_of
from mosaic_controlplane.api.interceptor import caller_of
from mosaic_controlplane.api.scope import tenant_of
from mosaic_controlplane.backlog.backlog import Backlog
from mosaic_controlplane.backlog.claiming import AGENT_LEASE, DEFAULT_LEASE, Filter, Wish
from mosaic_controlplane.backlog.drafts import require
from mosaic_controlplane.backlog.errors import CardNotFound
from mosaic_controlplane.backlog.standing import resolve
from mosaic_controlplane.backlog.transitions import Proposal, Under
from mosaic_controlplane.identity.caller import Caller
from mosaic_controlplane.register.card import CardRow, PageFilter
from mosaic_controlplane.register.card_claim import Actor, Completion, Taken

if TYPE_CHECKING:
    from grpc.aio import ServicerContext

DONE_LIMIT = 100
IMPORT_BYTES = 256 * 1024 * 1024


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


@dataclass(frozen=True, slots=True)
class _Desk:
    """Who calls, for which tenant, as whom in the backlog."""

    caller: Caller
    tenant_id: UUID
    actor: Actor

    @property
    def tenant(self) -> str:
        return self.caller.tenant

    @property
    def default_lease(self) -> timedelta:
        """An agent's host renews for its run; for anybody else nobody does."""
        renewed = self.caller.kind == "agent" and self.actor.run_id != self.caller.id
        return AGENT_LEASE if renewed else DEFAULT_LEASE


class BacklogService(backlog_pb2_grpc.BacklogServiceServicer):
    """The backlog of a tenant."""

    def __init__(self, backlog: Backlog) -> None:
        self._backlog = backlog

    async def Create(
        self, request: pb.CreateCardsRequest, context: ServicerContext[pb.CreateCardsRequest, pb.CreateCardsReply]
    ) -> pb.CreateCardsReply:
        caller = caller_of(context)
        created = await self._backlog.cards.create(
            [decode.draft(sent) for sent in request.cards],
            caller=caller,
            tenant_id=tenant_of(caller, request.tenant),
            request_id=identifier(request.request_id, what="request id"),
            payload=request.SerializeToString(deterministic=True),
        )
        return pb.CreateCardsReply(
            cards=[encode.card(row, tenant=caller.tenant, bodies=len(created.cards) == 1) for row in created.cards],
            problems=[encode.problem(found) for found in created.problems],
            existed=created.existed,
        )

    async def Update(
        self, request: pb.UpdateCardRequest, context: ServicerContext[pb.UpdateCardRequest, pb.CardReply]
    ) -> pb.CardReply:
        caller = caller_of(context)
        row = await self._backlog.cards.update(
            request.card_id,
            decode.changes(request),
            caller=caller,
            tenant_id=tenant_of(caller, request.tenant),
            request_id=identifier(request.request_id, what="request id"),
            payload=request.SerializeToString(deterministic=True),
        )
        return _card_reply(row, caller)

    async def Claim(
        self, request: pb.ClaimRequest, context: ServicerContext[pb.ClaimRequest, pb.ClaimReply]
    ) -> pb.ClaimReply:
        desk = await self._desk(context, request.tenant, request.claimant_id)
        card_id = request.card_id
        if card_id:
            async with self._backlog.database.connection() as connection:
                card_id = await resolve(connection, tenant_id=desk.tenant_id, card_id=card_id)
        taken = await self._backlog.claiming.claim(
            desk.tenant_id,
            Wish(
                request_id=identifier(request.request_id, what="request id"),
                actor=desk.actor,
                which=decode.which(request.filter, desk.caller),
                card_id=card_id,
                most=request.max or 1,
                lease=decode.length(request, "lease") or desk.default_lease,
                wait=decode.length(request, "wait") or timedelta(0),
            ),
        )
        return pb.ClaimReply(
            claims=[encode.claim(one, tenant=desk.tenant) for one in taken],
            paused=not taken and await self._backlog.paused(desk.tenant_id),
        )

    async def Renew(
        self, request: pb.RenewRequest, context: ServicerContext[pb.RenewRequest, pb.ClaimReply]
    ) -> pb.ClaimReply:
        desk = await self._desk(context, request.tenant, request.claimant_id)
        row = await self._backlog.transitions.renew(
            desk.tenant_id,
            _under(request, desk.actor),
            lease=decode.length(request, "lease"),
            extend=decode.length(request, "extend"),
        )
        renewed = Taken(UUID(int=0), 0, row, row.fence, row.changed_at)
        return pb.ClaimReply(claims=[encode.claim(renewed, tenant=desk.tenant)])

    async def Propose(
        self, request: pb.ProposeRequest, context: ServicerContext[pb.ProposeRequest, pb.CardReply]
    ) -> pb.CardReply:
        desk = await self._desk(context, request.tenant, request.claimant_id)
        proposal = Proposal(
            branch=request.branch,
            head=request.head,
            pull_request=request.pull_request,
            evidence=decode.evidence(request.evidence),
            note=request.note,
            spent=decode.spent(request.spent),
        )
        row = await self._backlog.transitions.propose(desk.tenant_id, _under(request, desk.actor), proposal)
        return _card_reply(row, desk.caller)

    async def Complete(
        self, request: pb.CompleteRequest, context: ServicerContext[pb.CompleteRequest, pb.CardReply]
    ) -> pb.CardReply:
        desk = await self._desk(context, request.tenant, request.claimant_id)
        request_id = identifier(request.request_id, what="request id")
        return _card_reply(await self._complete(desk, request, request_id, 0), desk.caller)

    async def Release(
        self, request: pb.ReleaseRequest, context: ServicerContext[pb.ReleaseRequest, pb.CardReply]
    ) -> pb.CardReply:
        desk = await self._desk(context, request.tenant, request.claimant_id)
        row = await self._backlog.transitions.release(
            desk.tenant_id, _under(request, desk.actor), reason=request.reason, spent=decode.spent(request.spent)
        )
        return _card_reply(row, desk.caller)

    async def Block(
        self, request: pb.BlockRequest, context: ServicerContext[pb.BlockRequest, pb.CardReply]
    ) -> pb.CardReply:
        desk = await self._desk(context, request.tenant, request.claimant_id)
        row = await self._backlog.transitions.block(
            desk.tenant_id, _under(request, desk.actor), reason=request.reason, spent=decode.spent(request.spent)
        )
        return _card_reply(row, desk.caller)

    async def Unblock(
        self, request: pb.UnblockRequest, context: ServicerContext[pb.UnblockRequest, pb.CardReply]
    ) -> pb.CardReply:
        desk = await self._desk(context, request.tenant)
        under = Under(identifier(request.request_id, what="request id"), desk.actor, _named(request.card_id))
        row = await self._backlog.transitions.unblock(desk.tenant_id, under, reason=request.reason, caller=desk.caller)
        return _card_reply(row, desk.caller)

    async def Cancel(
        self, request: pb.CancelRequest, context: ServicerContext[pb.CancelRequest, pb.CardReply]
    ) -> pb.CardReply:
        desk = await self._desk(context, request.tenant)
        under = Under(identifier(request.request_id, what="request id"), desk.actor, _named(request.card_id))
        row = await self._backlog.transitions.cancel(desk.tenant_id, under, reason=request.reason, caller=desk.caller)
        return _card_reply(row, desk.caller)

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
        desk: _Desk | None = None
        which = Filter()
        async for request in request_iterator:
            if desk is None:
                desk = await self._desk(context, request.tenant, request.claimant_id)
                which = decode.which(request.filter, desk.caller)
            elif request.HasField("filter"):
                which = decode.which(request.filter, desk.caller)
            yield await self._work(desk, which, request)

    async def _work(self, desk: _Desk, which: Filter, request: pb.WorkRequest) -> pb.WorkReply:
        """Answer one message of a work stream: what is done first, so that what waited for it can be next."""
        if len(request.done) > DONE_LIMIT:
            raise InvalidInput(f"{len(request.done)} cards done in one message", why=f"at most {DONE_LIMIT} may be")
        request_id = identifier(request.request_id, what="request id")
        reply = pb.WorkReply(request_id=request.request_id)
        # Places below zero: those from zero up are of the claims under the same request id.
        done = [self._done(desk, one, request_id, -1 - place) for place, one in enumerate(request.done)]
        reply.done.extend([await done[0]] if len(done) == 1 else await asyncio.gather(*done))
        if request.next:
            taken = await self._backlog.claiming.claim(
                desk.tenant_id,
                Wish(
                    request_id=request_id,
                    actor=desk.actor,
                    which=which,
                    most=request.next,
                    lease=decode.length(request, "lease") or desk.default_lease,
                    wait=decode.length(request, "wait") or timedelta(0),
                ),
            )
            reply.claims.extend(encode.claim(one, tenant=desk.tenant) for one in taken)
            reply.paused = not taken and await self._backlog.paused(desk.tenant_id)
        return reply

    async def _done(self, desk: _Desk, request: pb.CompleteRequest, request_id: UUID, place: int) -> pb.WorkReply.Done:
        try:
            row = await self._complete(desk, request, request_id, place)
        except FleetError as error:
            return pb.WorkReply.Done(card_id=request.card_id, error=encode.error(error))
        return pb.WorkReply.Done(card_id=row.card_id, status=encode.status(row.status))

    async def _complete(self, desk: _Desk, request: pb.CompleteRequest, request_id: UUID, place: int) -> CardRow:
        completion = Completion(
            card_id=request.card_id,
            fence=_fence(request.fence),
            actor=desk.actor,
            request_id=request_id,
            place=place,
            result=require(request.result, what="result", limit=decode.RESULT_LIMIT),
            head=require(request.head, what="head"),
            pull_request=require(request.pull_request, what="pull request"),
            evidence=decode.evidence(request.evidence),
            spent=decode.spent(request.spent),
        )
        return await self._backlog.complete(desk.tenant_id, completion)

    async def Link(
        self, request: pb.LinkRequest, context: ServicerContext[pb.LinkRequest, pb.CardReply]
    ) -> pb.CardReply:
        caller = caller_of(context)
        row, depends_on = await self._backlog.cards.link(
            _named(request.card_id),
            list(request.depends_on),
            caller=caller,
            tenant_id=tenant_of(caller, request.tenant),
            request_id=identifier(request.request_id, what="request id"),
            payload=request.SerializeToString(deterministic=True),
        )
        return pb.CardReply(card=encode.card(row, tenant=caller.tenant, depends_on=depends_on))

    async def Unlink(
        self, request: pb.LinkRequest, context: ServicerContext[pb.LinkRequest, pb.CardReply]
    ) -> pb.CardReply:
        caller = caller_of(context)
        row, depends_on = await self._backlog.cards.unlink(
            _named(request.card_id),
            list(request.depends_on),
            caller=caller,
            tenant_id=tenant_of(caller, request.tenant),
            request_id=identifier(request.request_id, what="request id"),
            payload=request.SerializeToString(deterministic=True),
        )
        return pb.CardReply(card=encode.card(row, tenant=caller.tenant, depends_on=depends_on))

    async def List(
        self, request: pb.ListCardsRequest, context: ServicerContext[pb.ListCardsRequest, pb.ListCardsReply]
    ) -> pb.ListCardsReply:
        caller = caller_of(context)
        wanted = PageFilter(
            required_class=getattr(request, "class"),
            labels=list(request.labels),
            mission=request.mission,
            phase=request.phase,
            holder=request.holder.rpartition("/")[2],
            repository=request.repository,
            text=request.text,
            goal=request.goal,
            requirement=request.requirement,
        )
        for text in wanted.parameters():
            for one in text if isinstance(text, list) else [text]:
                require(str(one), what="filter")
        page = await self._backlog.views.page(
            tenant_of(caller, request.tenant),
            wanted=wanted,
            statuses=[decode.status_name(value) for value in request.statuses],
            everything=request.all,
            ready=request.ready or request.order == pb.CARD_ORDER_CLAIM,
            cursor=request.cursor,
            limit=request.limit,
            dependencies=request.dependencies,
        )
        return pb.ListCardsReply(
            cards=[
                encode.card(
                    row,
                    tenant=caller.tenant,
                    depends_on=page.depends_on.get(row.card_id, ()),
                    at=page.at,
                    bodies=request.bodies,
                )
                for row in page.cards
            ],
            next_cursor=page.next_cursor,
            at=timestamp(page.at),
            paused=page.paused,
        )

    async def Show(
        self, request: pb.ShowCardRequest, context: ServicerContext[pb.ShowCardRequest, pb.ShowCardReply]
    ) -> pb.ShowCardReply:
        desk = await self._desk(context, request.tenant, request.claimant_id)
        found = await self._backlog.views.show(
            desk.tenant_id,
            card_id=request.card_id,
            actor=desk.actor,
            history_limit=request.history_limit,
            tree_depth=request.tree_depth,
        )
        return encode.shown(found, tenant=desk.tenant)

    async def Stats(
        self, request: pb.BacklogStatsRequest, context: ServicerContext[pb.BacklogStatsRequest, pb.BacklogStatsReply]
    ) -> pb.BacklogStatsReply:
        tenant_id = tenant_of(caller_of(context), request.tenant)
        window = decode.length(request, "window")
        return encode.statistics(await self._backlog.views.statistics(tenant_id, window=window))

    async def Verify(
        self, request: pb.VerifyBacklogRequest, context: ServicerContext[pb.VerifyBacklogRequest, pb.VerifyBacklogReply]
    ) -> pb.VerifyBacklogReply:
        tenant_id = tenant_of(caller_of(context), request.tenant)
        cards, edges, found, cut = await self._backlog.views.verify(tenant_id)
        return pb.VerifyBacklogReply(
            cards=cards,
            edges=edges,
            mismatches=[
                pb.VerifyBacklogReply.Mismatch(card_id=one.card_id, what=one.what, kept=one.kept, found=one.found)
                for one in found
            ],
            cut=cut,
        )

    async def Export(
        self, request: pb.ExportCardsRequest, context: ServicerContext[pb.ExportCardsRequest, pb.CardRecord]
    ) -> AsyncIterator[pb.CardRecord]:
        caller = caller_of(context)
        tenant_id = tenant_of(caller, request.tenant)
        async for record in self._backlog.exchange.export(tenant_id, history=request.history):
            yield encode.record(record, tenant=caller.tenant)

    async def Import(
        self,
        request_iterator: AsyncIterator[pb.ImportCardsRequest],
        context: ServicerContext[pb.ImportCardsRequest, pb.ImportCardsReply],
    ) -> pb.ImportCardsReply:
        caller = caller_of(context)
        first: pb.ImportCardsRequest | None = None
        sent: list[pb.CardRecord] = []
        size = 0
        async for request in request_iterator:
            first = first or request
            size += request.ByteSize()
            if size > IMPORT_BYTES:
                raise TooLarge("the import is too large", why=f"at most {IMPORT_BYTES:,} bytes are taken at once")
            sent.extend(request.records)
        if first is None:
            raise InvalidInput("nothing was sent to import")
        done = await self._backlog.exchange.bring_in(
            decode.records(sent),
            caller=caller,
            tenant_id=tenant_of(caller, first.tenant),
            request_id=identifier(first.request_id, what="request id"),
        )
        return pb.ImportCardsReply(
            imported=done.imported, existed=done.existed, problems=[encode.problem(found) for found in done.problems]
        )

    async def Pause(
        self, request: pb.PauseRequest, context: ServicerContext[pb.PauseRequest, pb.PauseReply]
    ) -> pb.PauseReply:
        return await self._set_paused(request, caller_of(context), paused=True)

    async def Resume(
        self, request: pb.PauseRequest, context: ServicerContext[pb.PauseRequest, pb.PauseReply]
    ) -> pb.PauseReply:
        return await self._set_paused(request, caller_of(context), paused=False)

    async def _set_paused(self, request: pb.PauseRequest, caller: Caller, *, paused: bool) -> pb.PauseReply:
        row, changed = await self._backlog.transitions.pause(
            tenant_of(caller, request.tenant),
            paused=paused,
            reason=request.reason,
            caller=caller,
            request_id=identifier(request.request_id, what="request id"),
        )
        return encode.pause(row, changed=changed)

    async def _desk(self, context: ServicerContext[Any, Any], tenant: str, claimant_id: str = "") -> _Desk:
        caller = caller_of(context)
        actor = await self._backlog.actor_of(
            caller,
            claimant=optional_identifier(claimant_id, what="claimant id"),
            run=optional_identifier(metadata_of(context, wire.RUN_KEY), what="run id"),
        )
        return _Desk(caller, tenant_of(caller, tenant), actor)


def _card_reply(row: CardRow, caller: Caller) -> pb.CardReply:
    return pb.CardReply(card=encode.card(row, tenant=caller.tenant))


def _under(request: _UnderClaim, actor: Actor) -> Under:
    return Under(identifier(request.request_id, what="request id"), actor, request.card_id, _fence(request.fence))


def _fence(fence: int) -> int:
    if fence < 0:
        raise InvalidInput("the fence is out of range", why="a fence counts from 1")
    return fence


def _named(card_id: str) -> str:
    if not card_id:
        raise CardNotFound("no card is named", next_step="mosaic backlog ls")
    return card_id
