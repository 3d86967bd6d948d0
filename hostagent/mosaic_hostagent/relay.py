"""Calls from inside a pane: each goes on to the control plane over the host's own identity, on behalf of its agent.

Calls and replies pass as bytes, whatever the method: what an agent may do is for the control plane's policy to say.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeAlias

import grpc
import grpc.aio
import structlog
from mosaic_framework import pane, wire
from mosaic_framework.errors import FleetError, Unreachable
from mosaic_framework.identity_files import StoredIdentity

from mosaic_hostagent.renewing import present
from mosaic_hostagent.sessions import PaneSession, Sessions

Context: TypeAlias = grpc.aio.ServicerContext[bytes, bytes]
_REQUEST_KEY = "mosaic-request-id"
_TOLD_SECONDS = 3.0

log = structlog.get_logger(__name__)


class NoLink(Unreachable):
    """This host has no link to the control plane just now."""

    code = "host-has-no-link"
    hint = "the agent can go on; try again in a moment"


class Upstream:
    """One channel to the control plane for all panes, opened when it is first needed, anew for another address."""

    def __init__(self, identity: Callable[[], StoredIdentity], address: Callable[[], str]) -> None:
        self._identity = identity
        self._address = address
        self._open: tuple[str, bytes, grpc.aio.Channel] | None = None
        self._shown = b""
        """the newer leaf that was shown on it, if any"""

    async def channel(self) -> grpc.aio.Channel:
        """Return the channel to the replica that holds this host's link. Raises NoLink."""
        address, identity = self._address(), self._identity()
        if not address:
            raise NoLink
        if (
            self._open is not None
            and self._open[0] == address
            and identity.certificate_pem in (self._open[1], self._shown)
        ):
            return self._open[2]
        await self.close()
        self._open = (address, identity.certificate_pem, wire.aio_channel(identity, address))
        return self._open[2]

    async def present(self, identity: StoredIdentity) -> None:
        """Let the channel go on under a renewed leaf. Raises FleetError; the next call then opens another channel."""
        if self._open is None or self._open[1] == identity.certificate_pem:
            return
        address, leaf_pem, channel = self._open
        await present(channel, leaf_pem, identity)
        if self._open == (address, leaf_pem, channel):
            self._shown = identity.certificate_pem

    async def close(self) -> None:
        """Close the channel; calls that are under way end."""
        if self._open is not None:
            opened, self._open, self._shown = self._open, None, b""
            await opened[2].close()


class Relay(grpc.GenericRpcHandler):
    """Takes every method. `told` returns when the register has heard of all runs that were begun."""

    def __init__(self, sessions: Sessions, upstream: Upstream, told: Callable[[], Awaitable[None]]) -> None:
        self._sessions = sessions
        self._upstream = upstream
        self._told = told
        self._known: set[str] = set()
        self.before: Callable[[PaneSession, str], None] = lambda _session, _method: None
        """may refuse a call with a FleetError"""
        self.after: Callable[[PaneSession, str], Awaitable[None]] = _nothing
        """told of each call that the control plane has carried out, before the pane hears of it"""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any]:
        """Return the one behaviour: on the wire each of the four kinds is a stream both ways."""
        method = handler_call_details.method

        async def behaviour(requests: AsyncIterator[bytes], context: Context) -> None:
            await self._relay(method, requests, context)

        return grpc.stream_stream_rpc_method_handler(behaviour)

    async def _relay(self, method: str, requests: AsyncIterator[bytes], context: Context) -> None:
        sent = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
        try:
            session = self._sessions.of_token(sent.get(pane.TOKEN_KEY, ""))
            self.before(session, method)
            await self._be_told(session)
            channel = await self._upstream.channel()
        except FleetError as error:
            log.info("a call from a pane was refused", method=method, code=error.code)
            await _abort(context, error)
            return
        metadata = [(wire.AGENT_KEY, session.agent_id), (wire.RUN_KEY, session.run_id)]
        if request_id := sent.get(_REQUEST_KEY):
            metadata.append((_REQUEST_KEY, request_id))
        forward: grpc.aio.StreamStreamMultiCallable[Any, Any] = channel.stream_stream(method)
        call = forward(requests, metadata=metadata, timeout=context.time_remaining())
        try:
            carried_out = False
            async for reply in call:
                if not carried_out:
                    carried_out = True
                    await self.after(session, method)
                await context.write(reply)
        except grpc.aio.AioRpcError as error:
            # gRPC's own words on a lost connection would name what only this host sees; status and trailers pass.
            await context.abort(error.code(), error.details() or "", _trailers(error))
        finally:
            call.cancel()

    async def _be_told(self, session: PaneSession) -> None:
        """Wait until the register can know this run: a program may call in its first millisecond."""
        if session.run_id in self._known:
            return
        try:
            async with asyncio.timeout(_TOLD_SECONDS):
                await self._told()
        except TimeoutError:
            raise NoLink("the control plane has not heard of this session yet") from None
        self._known.add(session.run_id)


async def _nothing(_session: PaneSession, _method: str) -> None:
    """What is told while nobody looks at calls."""


def _trailers(error: grpc.aio.AioRpcError) -> tuple[tuple[str, bytes], ...]:
    return tuple(
        (key, value)
        for key, value in error.trailing_metadata() or ()
        if key == wire.ERROR_KEY and isinstance(value, bytes)
    )


async def _abort(context: Context, error: FleetError) -> None:
    status, message = wire.error_to_status(error)
    await context.abort(status, error.what[:200], ((wire.ERROR_KEY, message),))
