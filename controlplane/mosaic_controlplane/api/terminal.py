"""TerminalService: watch and drive terminals. HostTerminalService: hosts show them. Policy: policy.yaml."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import TYPE_CHECKING, TypeVar

from mosaic_framework.errors import InvalidInput
from mosaic_proto.v1 import terminal_pb2 as pb
from mosaic_proto.v1 import terminal_pb2_grpc

from mosaic_controlplane.api.interceptor import caller_of
from mosaic_controlplane.api.scope import tenant_of
from mosaic_controlplane.federation import watching
from mosaic_controlplane.federation.elsewhere import of_peer
from mosaic_controlplane.federation.outgoing import Outgoing
from mosaic_controlplane.mesh import addresses
from mosaic_controlplane.mesh.attach import Attachments
from mosaic_controlplane.mesh.forwarding import Forwarder
from mosaic_controlplane.mesh.links import Links
from mosaic_controlplane.mesh.views import Views
from mosaic_controlplane.register.database import Database

if TYPE_CHECKING:
    from grpc.aio import ServicerContext

FIRST_SECONDS = 10.0

Frame = TypeVar("Frame")


class TerminalService(terminal_pb2_grpc.TerminalServiceServicer):
    """Terminals as a person sees them."""

    def __init__(
        self,
        database: Database,
        links: Links,
        forwarder: Forwarder,
        views: Views,
        attachments: Attachments,
        outgoing: Outgoing,
    ) -> None:
        self._database = database
        self._outgoing = outgoing
        self._links = links
        self._forwarder = forwarder
        self._views = views
        self._attachments = attachments

    async def Watch(
        self,
        request: pb.WatchTerminalRequest,
        context: ServicerContext[pb.WatchTerminalRequest, pb.TerminalFrame],
    ) -> AsyncIterator[pb.TerminalFrame]:
        caller = caller_of(context)
        tenant_id = tenant_of(caller, request.tenant)
        elsewhere = await of_peer(self._database, tenant_id=tenant_id, address=request.address)
        if elsewhere is not None:
            async with aclosing(watching.frames(self._outgoing, elsewhere, caller, request)) as shown:
                async for frame in shown:
                    yield frame
            return
        async with self._database.connection() as connection:
            seat = await addresses.one_seat(connection, tenant_id=tenant_id, address=request.address)
        holder = await self._links.elsewhere(tenant_id=tenant_id, host_id=seat.host_id)
        if holder is not None:
            async with self._forwarder.to(holder) as onward:
                stub: terminal_pb2_grpc.TerminalServiceAsyncStub = terminal_pb2_grpc.TerminalServiceStub(onward.channel)
                async for frame in onward.replies(stub.Watch(request, metadata=onward.metadata)):
                    yield frame
            return
        async with aclosing(self._views.watch(seat, scrolled=request.scrolled, lines=max(0, request.lines))) as frames:
            async for frame in frames:
                yield frame

    async def Attach(
        self,
        request_iterator: AsyncIterator[pb.AttachInput],
        context: ServicerContext[pb.AttachInput, pb.AttachOutput],
    ) -> AsyncIterator[pb.AttachOutput]:
        caller = caller_of(context)
        first = await _first(request_iterator, "the attachment")
        if first.WhichOneof("input") != "ask":
            raise InvalidInput("the attachment does not begin with what it is to")
        tenant_id = tenant_of(caller, first.ask.tenant)
        async with self._database.connection() as connection:
            seat = await addresses.one_seat(connection, tenant_id=tenant_id, address=first.ask.address)
        holder = await self._links.elsewhere(tenant_id=tenant_id, host_id=seat.host_id)
        if holder is not None:
            async with self._forwarder.to(holder) as onward:
                stub: terminal_pb2_grpc.TerminalServiceAsyncStub = terminal_pb2_grpc.TerminalServiceStub(onward.channel)
                given = onward.requests(_again(first, request_iterator))
                call = stub.Attach(given, metadata=onward.metadata)
                async for output in onward.replies(call):
                    yield output
            return
        attached = self._attachments.attach(tenant_id, seat, caller, take=first.ask.take, inputs=request_iterator)
        async with aclosing(attached) as outputs:
            async for output in outputs:
                yield output


class HostTerminalService(terminal_pb2_grpc.HostTerminalServiceServicer):
    """What hosts show, when they were asked to."""

    def __init__(self, views: Views) -> None:
        self._views = views

    async def Serve(
        self, request_iterator: AsyncIterator[pb.ViewUp], context: ServicerContext[pb.ViewUp, pb.ViewDown]
    ) -> AsyncIterator[pb.ViewDown]:
        first = await _first(request_iterator, "the view")
        view = self._views.serve(caller_of(context), first.hello)
        pump = asyncio.create_task(view.pump(request_iterator), name="view-pump")
        try:
            while view.ended is None and (down := await view.down.get()) is not None:
                yield down
        finally:
            self._views.served(view)
            pump.cancel()
            await asyncio.gather(pump, return_exceptions=True)


async def _again(first: pb.AttachInput, rest: AsyncIterator[pb.AttachInput]) -> AsyncIterator[pb.AttachInput]:
    """Yield what was read already, then the rest: the attachment begins anew at the replica that holds the link."""
    yield first
    async for given in rest:
        yield given


async def _first(frames: AsyncIterator[Frame], what: str) -> Frame:
    try:
        async with asyncio.timeout(FIRST_SECONDS):
            return await anext(frames)
    except (StopAsyncIteration, TimeoutError):
        raise InvalidInput(f"{what} said nothing", why=f"nothing came within {FIRST_SECONDS:g} s") from None
