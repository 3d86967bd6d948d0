"""BacklogService: cards made, claimed, completed, shown. Policy: policy.yaml."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from mosaic_framework.errors import InvalidInput, TooLarge
from mosaic_proto.v1 import backlog_pb2 as pb

from mosaic_controlplane.api import backlog_decode as decode
from mosaic_controlplane.api import backlog_encode as encode
from mosaic_controlplane.api.backlog_claims import ClaimCalls
from mosaic_controlplane.api.backlog_desk import card_reply, desk_of, named
from mosaic_controlplane.api.encode import identifier, timestamp
from mosaic_controlplane.api.interceptor import caller_of
from mosaic_controlplane.api.scope import tenant_of
from mosaic_controlplane.backlog.drafts import require
from mosaic_controlplane.identity.caller import Caller
from mosaic_controlplane.register.card_view import PageFilter

if TYPE_CHECKING:
    from grpc.aio import ServicerContext

IMPORT_BYTES = 256 * 1024 * 1024


class BacklogService(ClaimCalls):
    """The backlog of a tenant."""

    async def Create(
        self, request: pb.CreateCardsRequest, context: ServicerContext[pb.CreateCardsRequest, pb.CreateCardsReply]
    ) -> pb.CreateCardsReply:
        caller = caller_of(context)
        created = await self._backlog.cards.create(
            [decode.draft(sent) for sent in request.cards],
            check_only=request.check_only,
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
        return card_reply(row, caller)

    async def Link(
        self, request: pb.LinkRequest, context: ServicerContext[pb.LinkRequest, pb.CardReply]
    ) -> pb.CardReply:
        caller = caller_of(context)
        row, depends_on = await self._backlog.dependencies.link(
            named(request.card_id),
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
        row, depends_on = await self._backlog.dependencies.unlink(
            named(request.card_id),
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
        desk = desk_of(context, request.tenant, request.claimant_id)
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
