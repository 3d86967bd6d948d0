"""HostService: join tokens and the list of hosts. Policy: policy.yaml."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from mosaic_framework.errors import InvalidInput, NotFound
from mosaic_framework.names import check_name, nearest
from mosaic_proto.v1 import fleet_pb2 as pb
from mosaic_proto.v1 import fleet_pb2_grpc

from mosaic_controlplane.api import encode
from mosaic_controlplane.api.interceptor import caller_of
from mosaic_controlplane.api.scope import tenant_of
from mosaic_controlplane.identity import auditing
from mosaic_controlplane.identity.tokens import make_token
from mosaic_controlplane.register import host as host_table
from mosaic_controlplane.register.database import Database

if TYPE_CHECKING:
    from collections.abc import Callable

    from grpc.aio import ServicerContext

    from mosaic_controlplane.identity.bootstrap import ClusterIdentity

DEFAULT_TTL = timedelta(minutes=10)
LONGEST_TTL = timedelta(hours=24)


class HostService(fleet_pb2_grpc.HostServiceServicer):
    """Hosts of a tenant. `enrol_addresses` is asked at each call: a port of 0 is known only once bound."""

    def __init__(self, database: Database, cluster: ClusterIdentity, enrol_addresses: Callable[[], list[str]]) -> None:
        self._database = database
        self._cluster = cluster
        self._enrol_addresses = enrol_addresses

    async def CreateToken(
        self,
        request: pb.CreateHostTokenRequest,
        context: ServicerContext[pb.CreateHostTokenRequest, pb.CreateHostTokenReply],
    ) -> pb.CreateHostTokenReply:
        caller = caller_of(context)
        tenant_id = tenant_of(caller, request.tenant)
        check_name(request.name, what="host")
        seconds = request.ttl_seconds or DEFAULT_TTL.total_seconds()
        if not 1 <= seconds <= LONGEST_TTL.total_seconds():
            raise InvalidInput("the token's life is out of range", why="it lies between 1 s and 24 h")
        ttl = timedelta(seconds=seconds)
        # Not kept under the request id: the reply holds a secret, which the register must not. A repeated call makes
        # another token, and the one whose reply was lost expires unused.
        async with self._database.transaction() as connection:
            token, expires_at = await make_token(
                connection,
                self._cluster,
                tenant_id=tenant_id,
                tenant=caller.tenant,
                kind="host",
                name=request.name,
                role="",
                made_by=caller.name,
                ttl=ttl,
                enrol_addresses=self._enrol_addresses(),
            )
            await auditing.record(
                connection,
                caller,
                tenant_id=tenant_id,
                method="HostService/CreateToken",
                target=request.name,
                request_id=request.request_id,
            )
        return pb.CreateHostTokenReply(token=token.format(), expires_at=encode.timestamp(expires_at))

    async def List(
        self, request: pb.ListHostsRequest, context: ServicerContext[pb.ListHostsRequest, pb.ListHostsReply]
    ) -> pb.ListHostsReply:
        tenant_id = tenant_of(caller_of(context), request.tenant)
        async with self._database.connection() as connection:
            rows = await host_table.list_hosts(connection, tenant_id=tenant_id)
        if request.name:
            names = [row.name for row in rows]
            rows = [row for row in rows if row.name == request.name]
            if not rows:
                close = nearest(request.name, names)
                raise NotFound(
                    f"there is no host {request.name[:80]!r}",
                    why=f"the nearest names are {', '.join(close)}" if close else "no host has a name like it",
                    next_step="mosaic host ls",
                )
        return pb.ListHostsReply(
            hosts=[encode.host(row) for row in rows], at=encode.timestamp(rows[0].at) if rows else None
        )
