"""TenantService: units of isolation, made and removed by who administers the cluster. Policy: policy.yaml."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from mosaic_framework.errors import Conflict, InvalidInput, NotFound
from mosaic_framework.names import check_name, nearest
from mosaic_proto.v1 import people_pb2 as pb
from mosaic_proto.v1 import people_pb2_grpc

from mosaic_controlplane.api import encode
from mosaic_controlplane.api.interceptor import caller_of
from mosaic_controlplane.api.people import life_of
from mosaic_controlplane.identity import auditing
from mosaic_controlplane.identity.tokens import make_token
from mosaic_controlplane.register import tenant as tenant_table
from mosaic_controlplane.register.database import Connection, Database
from mosaic_controlplane.register.tenant import TenantShown

if TYPE_CHECKING:
    from collections.abc import Callable

    from grpc.aio import ServicerContext

    from mosaic_controlplane.identity.bootstrap import ClusterIdentity

FIRST_TENANT = tenant_table.DEFAULT

TABLES = {"host": "hosts", "operator": "operators", "agent": "agents", "message": "messages", "card": "cards"}
"""What is told of a removed tenant: the rows a person knows."""


class TenantInUse(Conflict):
    """Hosts of this tenant are there, or other clusters are paired with it."""

    code = "tenant-in-use"


class _OnlyLooked(Exception):
    """Ends the transaction of a dry run."""


class TenantService(people_pb2_grpc.TenantServiceServicer):
    """Tenants. `enrol_addresses` is asked at each call."""

    def __init__(self, database: Database, cluster: ClusterIdentity, enrol_addresses: Callable[[], list[str]]) -> None:
        self._database = database
        self._cluster = cluster
        self._enrol_addresses = enrol_addresses

    async def Create(
        self, request: pb.CreateTenantRequest, context: ServicerContext[pb.CreateTenantRequest, pb.CreateTenantReply]
    ) -> pb.CreateTenantReply:
        caller = caller_of(context)
        check_name(request.name, what="tenant")
        check_name(request.admin, what="operator")
        ttl = life_of(request.ttl_seconds)
        # Not kept under the request id: the reply holds a secret. Repeated, it makes another code for the same tenant.
        async with self._database.transaction() as connection:
            made = await tenant_table.make(connection, request.name)
            row = await _named(connection, request.name)
            if made is None and (row.name == FIRST_TENANT or row.operators):
                raise Conflict(
                    f"there is a tenant {row.name!r} already",
                    why="its people log in with codes that its own admins make",
                    next_step="there, an admin runs: mosaic operator token NAME --role ROLE",
                )
            token, expires_at = await make_token(
                connection,
                self._cluster,
                tenant_id=row.tenant_id,
                tenant=row.name,
                kind="operator",
                name=request.admin,
                role="admin",
                made_by=caller.name,
                ttl=ttl,
                enrol_addresses=self._enrol_addresses(),
            )
            await auditing.record(
                connection,
                caller,
                method="TenantService/Create",
                target=row.name,
                request_id=request.request_id,
                detail={"admin": request.admin, "again": str(made is None).lower()},
            )
        return pb.CreateTenantReply(tenant=_tenant(row), token=token.format(), expires_at=encode.timestamp(expires_at))

    async def List(
        self, _request: pb.ListTenantsRequest, context: ServicerContext[pb.ListTenantsRequest, pb.ListTenantsReply]
    ) -> pb.ListTenantsReply:
        caller = caller_of(context)
        only = None if caller.administers_cluster else caller.tenant_id
        async with self._database.connection() as connection:
            rows = await tenant_table.list_tenants(connection, tenant_id=only)
        return pb.ListTenantsReply(tenants=[_tenant(row) for row in rows])

    async def Remove(
        self, request: pb.RemoveTenantRequest, context: ServicerContext[pb.RemoveTenantRequest, pb.RemoveTenantReply]
    ) -> pb.RemoveTenantReply:
        caller = caller_of(context)
        removed: dict[str, int] = {}
        with contextlib.suppress(_OnlyLooked):
            async with self._database.transaction() as connection:
                row = await _named(connection, request.name)
                if row.name == FIRST_TENANT:
                    raise InvalidInput(
                        f"the tenant {FIRST_TENANT!r} cannot be removed", why="its admins administer the cluster"
                    )
                linked = await tenant_table.linked_hosts(connection, tenant_id=row.tenant_id)
                if linked:
                    raise TenantInUse(
                        f"hosts of tenant {row.name!r} are linked: {', '.join(linked[:5])}",
                        why="agents may run there, and nobody could stop them any more",
                        next_step="end them there first: mosaic down, as the tenant's user on each machine",
                        details={"hosts": ",".join(linked)},
                    )
                peers = await tenant_table.standing_peers(connection, tenant_id=row.tenant_id)
                if peers:
                    raise TenantInUse(
                        f"other clusters are paired with tenant {row.name!r}: {', '.join(peers[:5])}",
                        why="nobody would tell them that it is over, and they would wait for it",
                        next_step=f"as an admin of the tenant: mosaic peer revoke {peers[0]}",
                        details={"peers": ",".join(peers)},
                    )
                removed = await tenant_table.remove(connection, tenant_id=row.tenant_id)
                if request.dry_run:
                    raise _OnlyLooked
                await auditing.record(
                    connection,
                    caller,
                    method="TenantService/Remove",
                    target=row.name,
                    request_id=request.request_id,
                    detail={name: str(count) for name, count in removed.items()},
                )
        return pb.RemoveTenantReply(removed={word: removed.get(table, 0) for table, word in TABLES.items()})


async def _named(connection: Connection, name: str) -> TenantShown:
    rows = await tenant_table.list_tenants(connection)
    for row in rows:
        if row.name == name:
            return row
    close = nearest(name, [row.name for row in rows])
    raise NotFound(
        f"there is no tenant {name[:80]!r}",
        why=f"the nearest names are {', '.join(close)}" if close else "no tenant has a name like it",
        next_step="mosaic tenant ls",
    )


def _tenant(row: TenantShown) -> pb.Tenant:
    return pb.Tenant(
        id=str(row.tenant_id),
        name=row.name,
        made_at=encode.timestamp(row.made_at),
        operators=row.operators,
        hosts=row.hosts,
        first=row.name == FIRST_TENANT,
    )
