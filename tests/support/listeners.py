"""A control plane's listeners: real sockets, TLS and register, and stand-ins for the services."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import mosaic_proto.v1.backlog_pb2
import mosaic_proto.v1.federation_pb2
import mosaic_proto.v1.fleet_pb2
import mosaic_proto.v1.host_link_pb2
import mosaic_proto.v1.messages_pb2
import mosaic_proto.v1.people_pb2  # noqa: F401  (in the pool, so that its methods are found)
from google.protobuf import descriptor_pool, message_factory
from grpc_health.v1 import health_pb2  # noqa: F401
from mosaic_controlplane.api.decoding import TolerantInterceptor
from mosaic_controlplane.api.enrolment import EnrolmentService
from mosaic_controlplane.api.identities import IdentityService
from mosaic_controlplane.api.interceptor import AuthInterceptor
from mosaic_controlplane.api.limits import Limits
from mosaic_controlplane.api.policy import all_methods
from mosaic_controlplane.config import Settings
from mosaic_controlplane.federation.authentication import PeerAuthenticator
from mosaic_controlplane.federation.bundles import PeerBundles
from mosaic_controlplane.identity.bootstrap import ClusterIdentity, ServerIdentity, open_cluster
from mosaic_controlplane.identity.caller import Caller, current_caller
from mosaic_controlplane.identity.presented import Presented
from mosaic_controlplane.identity.standings import Standings
from mosaic_controlplane.identity.tokens import make_token
from mosaic_controlplane.mesh.wakes import Wakes
from mosaic_controlplane.register import tenant
from mosaic_controlplane.register.database import Database
from mosaic_framework import wire
from mosaic_framework.call_endings import as_ended
from mosaic_framework.enrolment import JoinToken, enrol
from mosaic_framework.identity_files import StoredIdentity
from mosaic_framework.ids import new_id
from mosaic_framework.paths import Home
from mosaic_proto.v1 import enrolment_pb2_grpc, identity_pb2_grpc

Behaviour = Callable[[str, Any], Any]
"""What a stand-in does: (method, context) → a reply's message, or an exception."""


@dataclass
class Listeners:
    """The listeners, running. `answered` are the calls that reached a service; `reached` is set by the first."""

    database: Database
    cluster: ClusterIdentity
    replica: ServerIdentity
    folder: Path
    bundles: PeerBundles
    """whose leaves the peer listener takes: read again after peers were written"""
    enrol_address: str = ""
    fleet_address: str = ""
    peer_address: str = ""
    answered: list[tuple[str, Caller]] = field(default_factory=list)
    reached: asyncio.Event = field(default_factory=asyncio.Event)

    async def token(
        self,
        kind: str,
        name: str,
        *,
        role: str = "",
        ttl: timedelta = timedelta(minutes=10),
        tenant_name: str = "default",
    ) -> JoinToken:
        async with self.database.transaction() as connection:
            await tenant.ensure(connection, tenant_name)
            found = await tenant.find_by_name(connection, tenant_name)
            assert found is not None
            token, _expires_at = await make_token(
                connection,
                self.cluster,
                tenant_id=found.tenant_id,
                tenant=found.name,
                kind=kind,
                name=name,
                role=role,
                made_by="a test",
                ttl=ttl,
                enrol_addresses=[self.enrol_address],
            )
        return token

    async def join(self, token: JoinToken, folder: str = "", *, name: str | None = None) -> StoredIdentity:
        """Enrol as a user's process does: with the blocking client, in a thread."""
        return await asyncio.to_thread(enrol, token, self.folder / (folder or token.name), name=name)

    async def enrolled(self, kind: str, name: str, *, role: str = "", tenant_name: str = "default") -> StoredIdentity:
        return await self.join(await self.token(kind, name, role=role, tenant_name=tenant_name))


@asynccontextmanager
async def running(
    database: Database,
    folder: Path,
    *,
    behaviour: Behaviour | None = None,
    also_trusted: bytes = b"",
    recheck_seconds: float = 10.0,
    register_away: Callable[[], float] = lambda: 0.0,
    limits: Limits | None = None,
    settings: Settings | None = None,
    options: list[tuple[str, int]] | None = None,
    identities: bool = False,
) -> AsyncIterator[Listeners]:
    """Run the listeners. `also_trusted`: more roots in the TLS bundle, as a cluster with peers has; `identities`: with
    the real IdentityService, which is the first to be asked."""
    cluster = await open_cluster(database, Home(folder / "home"), alias="test")
    replica = cluster.issue_replica_leaf(new_id())
    bundles = PeerBundles(database, lambda: replica)
    made = Listeners(database, cluster, replica, folder, bundles)

    more = options or []  # of two values gRPC takes the first
    enrol_server = grpc.aio.server(interceptors=[TolerantInterceptor()], options=[*more, *wire.ENROL_SERVER_OPTIONS])
    enrolment_pb2_grpc.add_EnrolmentServiceServicer_to_server(
        EnrolmentService(database, cluster, fleet_addresses=lambda: [made.fleet_address], settings=settings),
        enrol_server,
    )
    standings = Standings(database, rescan_seconds=recheck_seconds)
    presented = Presented(cluster)
    peers = PeerAuthenticator(database, cluster)
    fleet_server = grpc.aio.server(
        interceptors=[
            AuthInterceptor(
                database,
                cluster,
                standings=standings,
                presented=presented,
                recheck_seconds=recheck_seconds,
                register_away=register_away,
                limits=limits,
                peers=peers,
            )
        ],
        options=[*more, *wire.SERVER_OPTIONS],
    )
    for_peers = AuthInterceptor(
        database, cluster, standings=standings, register_away=register_away, limits=limits, peers=peers, for_peers=True
    )
    peer_server = grpc.aio.server(interceptors=[for_peers], options=[*more, *wire.SERVER_OPTIONS])
    if identities:
        identity_pb2_grpc.add_IdentityServiceServicer_to_server(
            IdentityService(database, cluster, presented, Wakes(database, new_id()), list), fleet_server
        )
    for handler in _stand_ins(made, behaviour):
        fleet_server.add_generic_rpc_handlers((handler,))
        peer_server.add_generic_rpc_handlers((handler,))
    enrol_port = enrol_server.add_secure_port(
        "127.0.0.1:0", wire.enrol_server_credentials(replica.key_pem, replica.certificate_pem)
    )
    fleet_port = fleet_server.add_secure_port(
        "127.0.0.1:0",
        wire.fleet_server_credentials(replica.key_pem, replica.certificate_pem, replica.bundle_pem + also_trusted),
    )
    await bundles.read()
    standings.on_look = bundles.read
    peer_port = peer_server.add_secure_port(
        "127.0.0.1:0", wire.rotating_server_credentials(lambda: bundles.current, for_joiners=False)
    )
    made.enrol_address, made.fleet_address = f"127.0.0.1:{enrol_port}", f"127.0.0.1:{fleet_port}"
    made.peer_address = f"127.0.0.1:{peer_port}"
    servers = (enrol_server, fleet_server, peer_server)
    await asyncio.gather(*(server.start() for server in servers))
    looking = asyncio.create_task(standings.run())
    try:
        yield made
    finally:
        looking.cancel()
        await asyncio.gather(*(server.stop(None) for server in servers))


def method_kinds(method: str) -> tuple[bool, bool, type[Any], type[Any]]:
    """Return (requests stream, replies stream, request class, reply class) of a method of the contract."""
    assert method in all_methods()  # which puts every method into the pool
    service, name = method.split("/")
    found = descriptor_pool.Default().FindServiceByName(service).methods_by_name[name]
    return (
        found.client_streaming,
        found.server_streaming,
        message_factory.GetMessageClass(found.input_type),
        message_factory.GetMessageClass(found.output_type),
    )


def _stand_ins(made: Listeners, behaviour: Behaviour | None) -> list[grpc.GenericRpcHandler[Any, Any]]:
    """Return a handler of the right kind for every method there is, the enrolment too: it must be refused here."""
    services: dict[str, dict[str, Any]] = {}
    for method in all_methods():
        service, name = method.split("/")
        services.setdefault(service, {})[name] = _stand_in(made, method, behaviour)
    return [grpc.method_handlers_generic_handler(service, handlers) for service, handlers in services.items()]


def _stand_in(made: Listeners, method: str, behaviour: Behaviour | None) -> Any:
    requests_stream, replies_stream, request_class, reply_class = method_kinds(method)

    async def answer(context: Any) -> Any:
        made.answered.append((method, current_caller()))
        made.reached.set()
        return await behaviour(method, context) if behaviour else reply_class()

    async def one(_request: Any, context: Any) -> Any:
        return await answer(context) or reply_class()

    async def many(_request: Any, context: Any) -> AsyncIterator[Any]:
        yield await answer(context) or reply_class()

    codec = {"request_deserializer": request_class.FromString, "response_serializer": reply_class.SerializeToString}
    if requests_stream and replies_stream:
        return grpc.stream_stream_rpc_method_handler(many, **codec)
    if requests_stream:
        return grpc.stream_unary_rpc_method_handler(one, **codec)
    if replies_stream:
        return grpc.unary_stream_rpc_method_handler(many, **codec)
    return grpc.unary_unary_rpc_method_handler(one, **codec)


async def call(
    channel: grpc.aio.Channel, method: str, *, metadata: Mapping[str, str | bytes] | None = None, request: Any = None
) -> Any:
    """Call any method with an empty request (or `request`), and return its first reply. Raises grpc.RpcError."""
    requests_stream, replies_stream, request_class, reply_class = method_kinds(method)
    kind = f"{'stream' if requests_stream else 'unary'}_{'stream' if replies_stream else 'unary'}"
    stub: Any = getattr(channel, kind)(
        f"/{method}", request_serializer=request_class.SerializeToString, response_deserializer=reply_class.FromString
    )
    sent = request or request_class()
    made = stub(iter([sent]) if requests_stream else sent, metadata=tuple((metadata or {}).items()), timeout=10)
    with as_ended(made):
        reply = await made.read() if replies_stream else await made
    if not replies_stream:
        return reply
    if reply is grpc.aio.EOF:
        code = await made.code()
        raise AssertionError(f"{method} ended without a reply: {code}")
    made.cancel()
    return reply
