"""What stands before every call on the fleet listener: who is it, may they, and how do they hear of a failure."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, nullcontext
from dataclasses import replace
from typing import Any

import grpc
import grpc.aio
import structlog
from mosaic_framework import wire
from mosaic_framework.errors import Denied, FleetError, NotAuthenticated

from mosaic_controlplane.api.auditing import Auditor
from mosaic_controlplane.api.decoding import WellFormed, tolerant, well_formed
from mosaic_controlplane.api.failures import (
    Context,
    answering,
    binary_metadata_of,
    forgetting,
    metadata_of,
    peer_address_of,
    request_id_of,
)
from mosaic_controlplane.api.limits import Limits
from mosaic_controlplane.api.policy import Policy, load_policy
from mosaic_controlplane.api.streams import RECHECK_SECONDS, Streams
from mosaic_controlplane.identity.authenticate import Authenticated, Authenticator, Identifies
from mosaic_controlplane.identity.bootstrap import ClusterIdentity
from mosaic_controlplane.identity.caller import Caller, calling, current_caller
from mosaic_controlplane.identity.origin import (
    AUDIENCE_KEY,
    FORWARDED_KEY,
    ON_BEHALF_KEY,
    PAIRING_KEY,
    Origin,
    coming_from,
)
from mosaic_controlplane.identity.presented import Presented
from mosaic_controlplane.identity.standings import Standings
from mosaic_controlplane.mesh.liveness import AWAY_SECONDS
from mosaic_controlplane.register.database import Database, RegisterUnreachable

log = structlog.get_logger(__name__)


def caller_of(_context: object) -> Caller:
    """Return the verified caller of the call that runs now."""
    return current_caller()


class AuthInterceptor(grpc.aio.ServerInterceptor):
    """Authenticates the peer, applies the policy, and turns failures into statuses; what failed is audited.

    A stream ends when its caller's certificate does, and when its caller is revoked or replaced: see streams.py.
    `peers` knows other clusters; with `for_peers` nobody else is let in: it is their listener.
    People's commands are told `replica_addresses`, those of all replicas that live, with each reply.
    """

    def __init__(
        self,
        database: Database,
        cluster: ClusterIdentity,
        policy: Policy | None = None,
        *,
        standings: Standings | None = None,
        presented: Presented | None = None,
        recheck_seconds: float = RECHECK_SECONDS,
        register_away: Callable[[], float] = lambda: 0.0,
        limits: Limits | None = None,
        peers: Identifies | None = None,
        for_peers: bool = False,
        replica_addresses: Callable[[], list[str]] = list,
    ) -> None:
        self._limits = limits or Limits()
        self._database = database
        self._policy = policy or load_policy()
        self._standings = standings or Standings(database)
        self._for_peers = for_peers
        self._replica_addresses = replica_addresses
        self._authenticator: Identifies
        if for_peers:
            assert peers is not None
            self._authenticator = peers
        else:
            own = Authenticator(database, cluster, peers=peers)
            self._standings.on_change = own.forget
            self._authenticator = own
        self._presented = presented or Presented(cluster)
        self._streams = Streams(self._standings, register_away, recheck_seconds)
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
                reply = await behaviour(checked(request), context)
                if caller_of(context).kind == "operator":  # hosts are told by their links
                    context.set_trailing_metadata(((wire.REPLICAS_KEY, ",".join(self._replica_addresses())),))
                return reply

        async def many_replies(request: Any, context: Context) -> None:
            async with self._call(method, request, context, streams=True):
                outcome = behaviour(checked(request), context)
                if not hasattr(outcome, "__aiter__"):  # it writes by itself
                    await outcome
                    return
                async with aclosing(outcome) as replies:
                    async for reply in replies:
                        await context.write(reply)

        checked: Callable[[Any], Any] = WellFormed if handler.request_streaming else well_formed
        codec = {
            "request_deserializer": tolerant(handler.request_deserializer, streams=handler.request_streaming),
            "response_serializer": handler.response_serializer,
        }
        wrapped: grpc.RpcMethodHandler[Any, Any]
        if handler.request_streaming and handler.response_streaming:
            behaviour = handler.stream_stream
            wrapped = grpc.stream_stream_rpc_method_handler(forgetting(many_replies), **codec)
        elif handler.request_streaming:
            behaviour = handler.stream_unary
            wrapped = grpc.stream_unary_rpc_method_handler(forgetting(one_reply), **codec)
        elif handler.response_streaming:
            behaviour = handler.unary_stream
            wrapped = grpc.unary_stream_rpc_method_handler(forgetting(many_replies), **codec)
        else:
            behaviour = handler.unary_unary
            wrapped = grpc.unary_unary_rpc_method_handler(forgetting(one_reply), **codec)
        return wrapped

    @asynccontextmanager
    async def _call(self, method: str, request: Any, context: Context, *, streams: bool) -> AsyncIterator[None]:
        request_id = request_id_of(request, context)
        caller: Caller | None = None
        leaf, pairing = b"", ""

        async def failed(error: FleetError) -> None:
            if isinstance(error, Denied):
                self._limits.refused(leaf, error, pairing)
            await self._auditor.failed(
                error,
                caller=caller,
                method=method,
                request=request,
                request_id=request_id,
                peer_address=caller.peer_address if caller else peer_address_of(context),
                claimed=self._claimed(context),
            )

        async with answering(context, method=method, request_id=request_id, told=failed):
            if self._register_away() >= AWAY_SECONDS:
                raise RegisterUnreachable(
                    why=f"it has not answered for {AWAY_SECONDS:g} s; nothing is served without it"
                )
            since = self._standings.changes
            origin = await self._origin(context, request_id)
            leaf, pairing = origin.leaf_pem, origin.pairing
            self._limits.knock(leaf, pairing)
            found = await self._authenticate(origin)
            caller = found.caller
            self._allow(method, caller)

            async def again() -> Authenticated:
                if origin.forwarded_by is None:
                    now = await self._authenticate(await self._origin(context, ""))
                else:  # its leaf's end is watched where its connection is: only there is a newer one shown
                    now = await self._authenticate(origin, within=found)
                self._allow(method, now.caller)
                return now

            # An AsyncExitStack would keep what ends a call in a circle with itself.
            with self._limits.admit(caller, method, stream=streams):
                standing: AbstractAsyncContextManager[None] = nullcontext()
                if streams:
                    standing = self._streams.while_standing(
                        found, method, since=since, again=again, ends_with_leaf=origin.forwarded_by is None
                    )
                async with standing:
                    with calling(caller), coming_from(origin):
                        yield

    def _claimed(self, context: Context) -> str:
        """Return who a stranger's leaf says that it is; and which pairing it is of, if it calls as another cluster."""
        name = b"".join(context.auth_context().get("peer_spiffe_id", ())).decode("utf-8", "replace")
        pairing = metadata_of(context, PAIRING_KEY) if self._for_peers else ""
        return f"{name} of pairing {pairing[:64]}" if pairing else name

    def _allow(self, method: str, caller: Caller) -> None:
        if not self._policy.allows(method, caller):
            raise _not_allowed(method, caller, self._policy)

    async def _origin(self, context: Context, request_id: str) -> Origin:
        """Return who the call says it is from: its peer, or whom a replica of this cluster says that it speaks for."""
        leaf = b"".join(context.auth_context().get("x509_pem_cert", ()))
        if not leaf:
            raise NotAuthenticated("this call came without a certificate", next_step="mosaic login")
        address = peer_address_of(context)
        peer = Origin(
            self._presented.newest(leaf, address),
            agent_id=metadata_of(context, wire.AGENT_KEY),
            run_id=metadata_of(context, wire.RUN_KEY),
            peer_address=address,
            request_id=request_id,
        )
        if self._for_peers:
            return replace(
                peer,
                agent_id="",
                run_id="",
                pairing=metadata_of(context, PAIRING_KEY),
                audience=metadata_of(context, AUDIENCE_KEY),
                on_behalf_of=binary_metadata_of(context, ON_BEHALF_KEY) or b"",
            )
        forwarded = binary_metadata_of(context, FORWARDED_KEY)
        if forwarded is None:
            return peer
        by = (await self._authenticate(replace(peer, agent_id="", run_id=""))).caller
        if by.kind != "replica":
            raise Denied(f"{by.kind} {by.name} may not hand on calls of others", why="only a replica may")
        return Origin.forwarded(forwarded, by=by.id, request_id=request_id)

    async def _authenticate(self, origin: Origin, *, within: Authenticated | None = None) -> Authenticated:
        return await self._authenticator.identify(origin, at_most=within.not_after if within is not None else None)


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
