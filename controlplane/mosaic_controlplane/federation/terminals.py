"""Terminals of this cluster that peers watch, for as long as that is granted."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from datetime import datetime

from mosaic_framework.errors import NotFound
from mosaic_proto.v1 import federation_pb2_grpc
from mosaic_proto.v1 import terminal_pb2 as pb

from mosaic_controlplane.federation import granted
from mosaic_controlplane.identity.caller import Caller
from mosaic_controlplane.identity.standings import Standings
from mosaic_controlplane.mesh.forwarding import Forwarder
from mosaic_controlplane.mesh.links import Links
from mosaic_controlplane.mesh.views import Views
from mosaic_controlplane.register.agent import Seat
from mosaic_controlplane.register.database import Database

LINES = 500
"""The most lines of scrollback that a peer begins with."""


class PeerTerminals:
    """Shows terminals to peers."""

    def __init__(
        self, database: Database, links: Links, forwarder: Forwarder, views: Views, standings: Standings
    ) -> None:
        self._database = database
        self._links = links
        self._forwarder = forwarder
        self._views = views
        self._standings = standings

    async def watch(
        self,
        request: pb.WatchTerminalRequest,
        caller: Caller,
        write: Callable[[pb.TerminalFrame], Awaitable[object]],
    ) -> None:
        """Write frames until the view or the grant ends. Raises NotGranted, NotFound (also of what is not granted)."""

        async def look() -> tuple[Seat, datetime]:
            async with self._database.connection() as connection:
                return await granted.one_seat(connection, caller, kind="watch", address=request.address)

        async def again() -> datetime:
            now, ends = await look()
            if now.agent_id != seat.agent_id:
                raise NotFound(f"agent {request.address[:80]!r} is another one now", why="its seat was made anew")
            return ends

        seat, until = await look()
        shown = self._frames(request, caller, seat)
        async with granted.while_granted(self._standings, caller, until, again), aclosing(shown) as frames:
            async for frame in frames:
                await write(frame)

    async def _frames(
        self, request: pb.WatchTerminalRequest, caller: Caller, seat: Seat
    ) -> AsyncGenerator[pb.TerminalFrame, None]:
        holder = await self._links.elsewhere(tenant_id=caller.tenant_id, host_id=seat.host_id)
        if holder is not None:
            async with self._forwarder.to(holder) as onward:
                stub: federation_pb2_grpc.FederationServiceAsyncStub = federation_pb2_grpc.FederationServiceStub(
                    onward.channel
                )
                async for frame in onward.replies(stub.WatchTerminal(request, metadata=onward.metadata)):
                    yield frame
            return
        lines = min(max(0, request.lines), LINES)
        async with aclosing(self._views.watch(seat, scrolled=request.scrolled, lines=lines)) as frames:
            async for frame in frames:
                yield frame
