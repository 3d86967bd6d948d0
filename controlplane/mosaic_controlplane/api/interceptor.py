"""What stands before every call on the fleet listener: who is it, may they, and how do they hear of a failure."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import grpc
import grpc.aio
import structlog
from mosaic_framework import wire
from mosaic_framework.errors import Denied, FleetError, NotAuthenticated, Unreachable

from mosaic_controlplane.api.auditing import Auditor
from mosaic_controlplane.api.failures import (
    Context,
    answering,
    binary_metadata_of,
    metadata_of,
    peer_address_of,
    request_id_of,
)
from mosaic_controlplane.api.policy import Policy, load_policy
from mosaic_controlplane.identity.authenticate import Authenticated, Authenticator
from mosaic_controlplane.identity.bootstrap import ClusterIdentity
from mosaic_controlplane.identity.caller import Caller, calling, current_caller
from mosaic_controlplane.identity.origin import FORWARDED_KEY, Origin, coming_from
from mosaic_controlplane.register.database import Database, RegisterUnreachable

RELAYS = frozenset({"mosaic.v1.TerminalService/Watch", "mosaic.v1.TerminalService/Attach"})
"""Streams that need no register once they run, and must not go on when nobody can say any more who may have them."""

AWAY_SECONDS = 5.0  # how long a relay may go on without the register
RECHECK_SECONDS = 10.0  # how long an open stream may outlive its caller's standing

log = structlog.get_logger(__name__)


def caller_of(_context: object) -> Caller:
    """Return the verified caller of the call that runs now."""
    return current_caller()


class AuthInterceptor(grpc.aio.ServerInterceptor):
    """Authenticates the peer, applies the policy, and turns failures into statuses; what failed is audited.

    A stream ends when its certificate does, and when its caller is revoked or replaced.
    """

    def __init__(
        self,
        database: Database,
        cluster: ClusterIdentity,
        policy: Policy | None = None,
        *,
        recheck_seconds: float = RECHECK_SECONDS,
        register_away: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._database = database
        self._authenticator = Authenticator(database, cluster)
        self._policy = policy or load_policy()
        self._recheck_seconds = recheck_seconds
        self._register_away = register_away
        self._auditor = Auditor(database)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Wrap the handler, whichever of the four kinds it is."""
        handler = await continuation(handler_call_details)
        if handler is None:  # no such method: gRPC answers that itself
            return None
        return self._wrap(handler, handler_call_details.method.lstrip("/"))

    def _wrap(self, handler: Any, method: str) -> grpc.RpcMethodHandler[Any, Any]:
        async def one_reply(request: Any, context: Context) -> Any:
            async with self._call(method, request, context, streams=handler.request_streaming):
                return await behaviour(request, context)

        async def many_replies(request: Any, context: Context) -> None:
            async with self._call(method, request, context, streams=True):
                outcome = behaviour(request, context)
                if not hasattr(outcome, "__aiter__"):  # it writes by itself
                    await outcome
                    return
                async with aclosing(outcome) as replies:
                    async for reply in replies:
                        await context.write(reply)

        codec = {
            "request_deserializer": handler.request_deserializer,
            "response_serializer": handler.response_serializer,
        }
        wrapped: grpc.RpcMethodHandler[Any, Any]
        if handler.request_streaming and handler.response_streaming:
            behaviour = handler.stream_stream
            wrapped = grpc.stream_stream_rpc_method_handler(many_replies, **codec)
        elif handler.request_streaming:
            behaviour = handler.stream_unary
            wrapped = grpc.stream_unary_rpc_method_handler(one_reply, **codec)
        elif handler.response_streaming:
            behaviour = handler.unary_stream
            wrapped = grpc.unary_stream_rpc_method_handler(many_replies, **codec)
        else:
            behaviour = handler.unary_unary
            wrapped = grpc.unary_unary_rpc_method_handler(one_reply, **codec)
        return wrapped

    @asynccontextmanager
    async def _call(self, method: str, request: Any, context: Context, *, streams: bool) -> AsyncIterator[None]:
        request_id = request_id_of(request, context)
        caller: Caller | None = None

        async def failed(error: FleetError) -> None:
            await self._auditor.failed(
                error,
                caller=caller,
                method=method,
                request=request,
                request_id=request_id,
                peer_address=caller.peer_address if caller else peer_address_of(context),
                claimed=b"".join(context.auth_context().get("peer_spiffe_id", ())).decode("utf-8", "replace"),
            )

        async with answering(context, method=method, request_id=request_id, told=failed):
            origin = await self._origin(context, request_id)
            found = await self._authenticate(origin)
            caller = found.caller
            if not self._policy.allows(method, caller):
                raise _not_allowed(method, caller, self._policy)
            async with AsyncExitStack() as stack:
                if streams:
                    await stack.enter_async_context(self._while_standing(found, context, method))
                stack.enter_context(calling(caller))
                stack.enter_context(coming_from(origin))
                yield

    async def _origin(self, context: Context, request_id: str) -> Origin:
        """Return who the call says it is from: its peer, or whom a replica of this cluster says that it speaks for."""
        leaf = b"".join(context.auth_context().get("x509_pem_cert", ()))
        if not leaf:
            raise NotAuthenticated("this call came without a certificate", next_step="mosaic login")
        peer = Origin(
            leaf,
            agent_id=metadata_of(context, wire.AGENT_KEY),
            run_id=metadata_of(context, wire.RUN_KEY),
            peer_address=peer_address_of(context),
            request_id=request_id,
        )
        forwarded = binary_metadata_of(context, FORWARDED_KEY)
        if forwarded is None:
            return peer
        by = (await self._authenticate(replace(peer, agent_id="", run_id=""))).caller
        if by.kind != "replica":
            raise Denied(f"{by.kind} {by.name} may not hand on calls of others", why="only a replica may")
        return Origin.forwarded(forwarded, by=by.id, request_id=request_id)

    async def _authenticate(self, origin: Origin) -> Authenticated:
        return await self._authenticator.authenticate(
            origin.leaf_pem,
            agent_id=origin.agent_id,
            run_id=origin.run_id,
            peer_address=origin.peer_address,
        )

    @asynccontextmanager
    async def _while_standing(self, found: Authenticated, context: Context, method: str) -> AsyncIterator[None]:
        """End the block when the certificate ends, or when the register no longer accepts who holds it.

        A relay also ends when the register has been away for AWAY_SECONDS, and nobody can say any more.
        """
        lost: list[FleetError] = []

        async def recheck(until: asyncio.Timeout) -> None:
            while not lost:
                await asyncio.sleep(self._recheck_seconds)  # nobody tells a replica of a revocation: it asks
                try:
                    await self._authenticate(await self._origin(context, ""))
                except Unreachable:
                    log.warning("could not recheck a stream", caller=found.caller.key)
                except FleetError as error:
                    lost.append(error)
            until.reschedule(asyncio.get_running_loop().time())

        async def look(until: asyncio.Timeout) -> None:
            while (left := AWAY_SECONDS - self._register_away()) > 0:  # noqa: ASYNC110 - the clock makes it due
                await asyncio.sleep(left)
            lost.append(RegisterUnreachable(why=f"terminals are not shown without it for more than {AWAY_SECONDS:g} s"))
            until.reschedule(asyncio.get_running_loop().time())

        left = (found.not_after - datetime.now(UTC)).total_seconds()
        ended = asyncio.timeout(left)
        watchers: list[asyncio.Task[None]] = []
        try:
            async with ended:
                watchers.append(asyncio.create_task(recheck(ended)))
                if method in RELAYS:
                    watchers.append(asyncio.create_task(look(ended)))
                yield
        except TimeoutError:
            if not ended.expired():
                raise  # the servicer's own
            if lost:
                raise lost[0] from None
            raise NotAuthenticated("the caller's certificate has expired", next_step="mosaic login") from None
        finally:
            for watcher in watchers:
                watcher.cancel()


def _not_allowed(method: str, caller: Caller, policy: Policy) -> Denied:
    role = f" ({caller.role})" if caller.role else ""
    name = method.rpartition("/")[2]
    allowed = policy.who(method)
    return Denied(
        f"{caller.kind} {caller.name}{role} may not call {name}",
        why=f"it is for {', '.join(allowed)}" if allowed else "the policy allows it to nobody",
        next_step="ask an admin of the cluster for a role that may",
        details={"method": method},
    )
