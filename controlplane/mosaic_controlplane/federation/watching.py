"""Terminals of peers, shown here."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing

from mosaic_proto.v1 import federation_pb2_grpc
from mosaic_proto.v1 import terminal_pb2 as pb

from mosaic_controlplane.federation.elsewhere import Elsewhere
from mosaic_controlplane.federation.errors import PeerUnreachable
from mosaic_controlplane.federation.outgoing import Outgoing
from mosaic_controlplane.identity.caller import Caller

FIRST_SECONDS = 10.0
LINES = 500

_SGR = re.compile("\x1b\\[[0-9;:]*m")


async def frames(
    outgoing: Outgoing, seat: Elsewhere, caller: Caller, request: pb.WatchTerminalRequest
) -> AsyncGenerator[pb.TerminalFrame, None]:
    """Yield a terminal's frames as its own cluster shows them. Raises what that refuses with, or PeerUnreachable."""
    asked = pb.WatchTerminalRequest(address=seat.address, scrolled=request.scrolled, lines=request.lines)
    async with outgoing.to(seat.peer, caller) as onward:
        stub: federation_pb2_grpc.FederationServiceAsyncStub = federation_pb2_grpc.FederationServiceStub(onward.channel)
        async for frame in onward.replies(stub.WatchTerminal(asked, metadata=onward.metadata)):
            yield frame


async def text(outgoing: Outgoing, seat: Elsewhere, caller: Caller, *, lines: int) -> str:
    """Return what is on a terminal now, and up to 500 lines above it: its first picture, as text."""
    request = pb.WatchTerminalRequest(scrolled=lines > 0, lines=min(lines, LINES))
    try:
        async with (
            asyncio.timeout(FIRST_SECONDS),
            aclosing(frames(outgoing, seat, caller, request)) as shown,
        ):
            async for frame in shown:
                rows = [row.text for row in sorted(frame.rows, key=lambda row: row.index)]
                return "".join(f"{_SGR.sub('', line).rstrip()}\n" for line in (*frame.scrolled, *rows))
    except TimeoutError:
        pass
    raise PeerUnreachable(
        f"cluster {seat.peer.name} showed nothing of {seat.address}", why=f"no picture came within {FIRST_SECONDS:g} s"
    )
