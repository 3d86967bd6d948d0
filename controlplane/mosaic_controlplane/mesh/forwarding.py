"""Calls handed on to the replica that holds a host's link: one hop, under the original caller's own authority.

What is not a row (a terminal's bytes) is only where the link is. A servicer that finds the link elsewhere makes the
same call there, whichever of the four kinds it is:

    async with self._forwarder.to(holder) as onward:
        return await FleetServiceStub(onward.channel).Tail(request, metadata=onward.metadata, timeout=onward.timeout)

    async with self._forwarder.to(holder) as onward:
        call = TerminalServiceStub(onward.channel).Attach(onward.requests(requests), metadata=onward.metadata)
        async for reply in onward.replies(call):
            yield reply
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import grpc
import grpc.aio
from mosaic_framework import wire
from mosaic_framework.call_endings import as_ended
from mosaic_framework.errors import FleetError, Unreachable

from mosaic_controlplane.identity.bootstrap import ServerIdentity
from mosaic_controlplane.identity.origin import current_origin
from mosaic_controlplane.register.replica import Holder

if TYPE_CHECKING:
    from grpc.aio import StreamStreamCall, UnaryStreamCall

CONNECT_SECONDS = 3.0
ANSWER_SECONDS = 10.0

Request = TypeVar("Request")
Reply = TypeVar("Reply")


class ReplicaUnreachable(Unreachable):
    """The replica of the control plane that holds the host's link cannot be reached."""

    code = "replica-unreachable"
    hint = "try again in a moment: a host whose replica is gone links to another one"


@dataclass(frozen=True, slots=True)
class Onward:
    """A way to another replica, for one call. `timeout`, in seconds, is for calls with one reply."""

    channel: grpc.aio.Channel
    metadata: tuple[tuple[str, str | bytes], ...]
    timeout: float = ANSWER_SECONDS
    failed: list[FleetError] = field(default_factory=list)
    """what the caller's requests failed with"""

    async def requests(self, given: AsyncIterator[Request]) -> AsyncIterator[Request]:
        """Yield what a caller streams. What that fails with ends replies() too: gRPC cancels them without a word."""
        try:
            async for request in given:
                yield request
        except FleetError as error:
            self.failed.append(error)
            raise

    async def replies(
        self, call: StreamStreamCall[Request, Reply] | UnaryStreamCall[Request, Reply]
    ) -> AsyncIterator[Reply]:
        """Yield what a streaming call brings; it ends there when nobody reads it here any more."""
        try:
            with as_ended(call):
                async for reply in call:
                    yield reply
        except asyncio.CancelledError:
            running = asyncio.current_task()
            if not self.failed or running is None or running.cancelling():
                raise
            raise self.failed.pop() from None
        finally:
            self.failed.clear()  # kept here, it would keep the call
            call.cancel()


class Forwarder:
    """Makes calls at other replicas, as this replica, for the caller of the call that runs now.

    `leaf` is asked at each call, for a replica renews its own.
    """

    def __init__(self, leaf: Callable[[], ServerIdentity]) -> None:
        self._leaf = leaf

    @asynccontextmanager
    async def to(self, holder: Holder) -> AsyncIterator[Onward]:
        """Lend a way to `holder`. A call that fails in the block raises what it failed with there, as a FleetError.

        Raises ReplicaUnreachable, and ForwardedTooFar when the running call has been handed on already.
        """
        metadata = current_origin().onward()
        leaf = self._leaf()
        async with wire.replica_channel(leaf.key_pem, leaf.certificate_pem, leaf.bundle_pem, holder.address) as channel:
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    await channel.channel_ready()
            except TimeoutError:
                raise _unreachable(holder, f"no connection within {CONNECT_SECONDS:g} s") from None
            try:
                yield Onward(channel, metadata)
            except grpc.RpcError as error:
                raise _told(holder, error) from error


def _told(holder: Holder, error: grpc.RpcError) -> FleetError:
    told = wire.error_from_rpc(error)
    # A plain one is gRPC's own word, not the other replica's.
    return _unreachable(holder, told.why) if type(told) is Unreachable else told


def _unreachable(holder: Holder, why: str) -> ReplicaUnreachable:
    return ReplicaUnreachable(
        f"the replica at {holder.address}, which holds the link of the host, cannot be reached",
        why=why,
        details={"replica": holder.address},
    )
