"""Viewers of terminals as tests see them: the picture as it is now, and keys."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import grpc.aio
from mosaic_framework import wire
from mosaic_framework.call_endings import as_ended
from mosaic_framework.errors import FleetError
from mosaic_framework.screen_feed import ScreenFeed
from mosaic_proto.v1 import terminal_pb2 as pb
from mosaic_proto.v1 import terminal_pb2_grpc

SGR = re.compile(r"\x1b\[[0-9:;]*m")
WAIT_SECONDS = 20.0


class Screen:
    """What one viewer sees. `error`: why it sees no more."""

    def __init__(self) -> None:
        self.feed = ScreenFeed()
        self.frames = 0
        self.scrolled: list[str] = []
        self.skipped = 0
        self.error: FleetError | None = None
        self.leases: list[pb.LeaseState] = []
        self._news = asyncio.Event()

    @property
    def text(self) -> str:
        """The picture without colours."""
        return "\n".join(SGR.sub("", row).rstrip() for row in self.feed.rows)

    @property
    def status(self) -> pb.TerminalStatus:
        return self.feed.status

    def take(self, frame: pb.TerminalFrame) -> None:
        self.frames += 1
        self.feed.take(frame)
        self.scrolled.extend(frame.scrolled)
        self.skipped += frame.skipped
        self._news.set()

    def took(self, lease: pb.LeaseState) -> None:
        self.leases.append(lease)
        self._news.set()

    def failed(self, error: FleetError) -> None:
        self.error = error
        self._news.set()

    async def until(self, condition: Callable[[Screen], object], what: str) -> None:
        """Wait until what is seen fulfils `condition`."""
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                while not condition(self):
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"never seen: {what}; {self.status} {self.error!r}\n{self.text.rstrip()}") from None

    async def shows(self, text: str) -> None:
        await self.until(lambda screen: text in screen.text, repr(text))


@asynccontextmanager
async def watching(channel: grpc.aio.Channel, address: str, *, scrolled: bool = False) -> AsyncIterator[Screen]:
    """Watch a terminal inside the block."""
    stub: terminal_pb2_grpc.TerminalServiceAsyncStub = terminal_pb2_grpc.TerminalServiceStub(channel)
    screen = Screen()
    call = stub.Watch(pb.WatchTerminalRequest(address=address, scrolled=scrolled))

    async def read() -> None:
        try:
            async for frame in call:
                screen.take(frame)
        except grpc.aio.AioRpcError as error:
            screen.failed(wire.error_from_rpc(error))

    reader = asyncio.create_task(read())
    try:
        yield screen
    finally:
        call.cancel()
        with suppress(asyncio.CancelledError):
            await reader


class Attached:
    """An attachment: what it sees, and its keys."""

    def __init__(self, screen: Screen, call: grpc.aio.StreamStreamCall[pb.AttachInput, pb.AttachOutput]) -> None:
        self.screen = screen
        self._call = call

    async def press(self, keys: bytes) -> None:
        await self._call.write(pb.AttachInput(keys=keys))

    async def renew(self) -> None:
        await self._call.write(pb.AttachInput(renew=pb.RenewLease()))


@asynccontextmanager
async def attached(channel: grpc.aio.Channel, address: str, *, take: bool = False) -> AsyncIterator[Attached]:
    """Attach to a terminal inside the block."""
    stub: terminal_pb2_grpc.TerminalServiceAsyncStub = terminal_pb2_grpc.TerminalServiceStub(channel)
    screen = Screen()
    call = stub.Attach()

    async def read() -> None:
        try:
            with as_ended(call):
                async for output in call:
                    if output.WhichOneof("output") == "lease":
                        screen.took(output.lease)
                    else:
                        screen.take(output.frame)
        except grpc.aio.AioRpcError as error:
            screen.failed(wire.error_from_rpc(error))

    await call.write(pb.AttachInput(ask=pb.AttachAsk(address=address, take=take)))
    reader = asyncio.create_task(read())
    try:
        yield Attached(screen, call)
    finally:
        if not call.done():
            await call.done_writing()
            with suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(reader), 5)
        call.cancel()
        with suppress(asyncio.CancelledError):
            await reader
