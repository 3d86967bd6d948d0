"""Calls from inside a pane: each goes on to the control plane over the host's own identity, on behalf of its agent.

Calls and replies pass as bytes, whatever the method: what an agent may do is for the control plane's policy to say.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeAlias

import grpc
import grpc.aio
import structlog
from mosaic_framework import pane, wire
from mosaic_framework.call_endings import as_ended
from mosaic_framework.contract import takes_one_request
from mosaic_framework.errors import FleetError, TooManyCalls, Unreachable
from mosaic_framework.identity_files import StoredIdentity

from mosaic_hostagent.renewing import present
from mosaic_hostagent.sessions import PaneSession, Sessions

Context: TypeAlias = grpc.aio.ServicerContext[bytes, bytes]
_REQUEST_KEY = "mosaic-request-id"
_TOLD_SECONDS = 3.0
_BUSY_SECONDS = 0.5
AT_ONCE = 128
"""Calls of one agent, streams too, that its host carries at one moment."""

_STATUSES = {status.value[0]: status.name.lower() for status in grpc.StatusCode}

log = structlog.get_logger(__name__)


class NoLink(Unreachable):
    """This host has no link to the control plane just now."""

    code = "host-has-no-link"
    hint = "the agent can go on; try again in a moment"


class EndedEarly(Unreachable):
    """The control plane ended the call while requests were still being sent."""

    code = "ended-early"
    hint = "try again"


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
        self._calls: Counter[str] = Counter()
        self.under_way = 0
        self.ended: Callable[[str], None] = lambda _outcome: None
        """told the status with which each call ended"""
        self.before: Callable[[PaneSession, str], None] = lambda _session, _method: None
        """may refuse a call with a FleetError"""
        self.after: Callable[[PaneSession, str], Awaitable[None]] = _nothing
        """told of each call that the control plane has carried out, before the pane hears of it"""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any]:
        """Return the one behaviour: on the wire each of the four kinds is a stream both ways."""
        method = handler_call_details.method

        async def behaviour(requests: AsyncIterator[bytes], context: Context) -> None:
            self.under_way += 1
            try:
                await self._relay(method, requests, context)
            finally:
                self.under_way -= 1
                self.ended(_word(context.code()))

        return grpc.stream_stream_rpc_method_handler(behaviour)

    async def _relay(self, method: str, requests: AsyncIterator[bytes], context: Context) -> None:
        sent = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
        try:
            session = self._sessions.of_token(sent.get(pane.TOKEN_KEY, ""))
            if self._calls[session.agent_id] >= AT_ONCE:
                raise TooManyCalls.until(
                    "this agent has too many calls under way",
                    seconds=_BUSY_SECONDS,
                    why=f"its host carries {AT_ONCE} at one moment, and what follows a message is one until it ends",
                )
        except FleetError as error:
            await _refuse(context, error, method)
            return
        self._calls[session.agent_id] += 1
        try:
            await self._carry(session, method, requests, context, sent.get(_REQUEST_KEY, ""))
        finally:
            self._calls[session.agent_id] -= 1
            if not self._calls[session.agent_id]:
                del self._calls[session.agent_id]

    async def _carry(
        self, session: PaneSession, method: str, requests: AsyncIterator[bytes], context: Context, request_id: str
    ) -> None:
        try:
            self.before(session, method)
            await self._be_told(session)
            channel = await self._upstream.channel()
        except FleetError as error:
            await _refuse(context, error, method)
            return
        metadata = [(wire.AGENT_KEY, session.agent_id), (wire.RUN_KEY, session.run_id)]
        if request_id:
            metadata.append((_REQUEST_KEY, request_id))
        call = await _forwarded(channel, method, requests, metadata, context.time_remaining())
        if call is None:
            return
        try:
            carried_out = False
            with as_ended(call):
                async for reply in call:
                    if not carried_out:
                        carried_out = True
                        await self.after(session, method)
                    await context.write(reply)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.INTERNAL and error.details() == wire.CUT_OFF:
                await _refuse(context, EndedEarly(), method)
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


async def _forwarded(
    channel: grpc.aio.Channel,
    method: str,
    requests: AsyncIterator[bytes],
    metadata: list[tuple[str, str]],
    timeout: float | None,
) -> Any:
    """Return the call onward, or None when the pane never said what it wants.

    A single request goes with the start of the call. As the first of a stream it would be a write of its own, and where
    the other side has refused the call by then, gRPC tells of the write that failed, and never of the refusal.
    """
    if not takes_one_request(method):
        stream: grpc.aio.StreamStreamMultiCallable[Any, Any] = channel.stream_stream(method)
        return stream(requests, metadata=metadata, timeout=timeout)
    async for request in requests:
        single: grpc.aio.UnaryStreamMultiCallable[Any, Any] = channel.unary_stream(method)
        return single(request, metadata=metadata, timeout=timeout)
    return None


async def _nothing(_session: PaneSession, _method: str) -> None:
    """What is told while nobody looks at calls."""


def _trailers(error: grpc.aio.AioRpcError) -> tuple[tuple[str, bytes], ...]:
    return tuple(
        (key, value)
        for key, value in error.trailing_metadata() or ()
        if key == wire.ERROR_KEY and isinstance(value, bytes)
    )


async def _refuse(context: Context, error: FleetError, method: str) -> None:
    log.info("a call from a pane was refused", method=method, code=error.code)
    status, message = wire.error_to_status(error)
    await context.abort(status, error.what[:200], ((wire.ERROR_KEY, message),))


def _word(code: object) -> str:
    """Return the name of the status with which a call ended; none was set by one that went well."""
    if isinstance(code, int):
        return _STATUSES.get(code, "ok")
    return code.name.lower() if isinstance(code, grpc.StatusCode) else "ok"
