"""OperatorService: the people of a tenant. Policy: policy.yaml."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from mosaic_framework.errors import Conflict, InvalidInput, NotFound
from mosaic_framework.names import nearest
from mosaic_proto.v1 import people_pb2 as pb
from mosaic_proto.v1 import people_pb2_grpc

from mosaic_controlplane.api import encode
from mosaic_controlplane.api.interceptor import caller_of
from mosaic_controlplane.api.scope import tenant_of
from mosaic_controlplane.identity import auditing
from mosaic_controlplane.identity.caller import ROLES
from mosaic_controlplane.identity.tokens import DEFAULT_TTL, LONGEST_TTL, make_token
from mosaic_controlplane.register import operator as operator_table
from mosaic_controlplane.register.database import Connection, Database
from mosaic_controlplane.register.operator import OperatorRow

if TYPE_CHECKING:
    from collections.abc import Callable

    from grpc.aio import ServicerContext

    from mosaic_controlplane.identity.bootstrap import ClusterIdentity


class LastAdmin(Conflict):
    """The tenant would have no admin left."""

    code = "last-admin"
    hint = "make another one first: mosaic operator token NAME --role admin"


class OperatorService(people_pb2_grpc.OperatorServiceServicer):
    """Operators of the caller's tenant. `enrol_addresses` is asked at each call."""

    def __init__(self, database: Database, cluster: ClusterIdentity, enrol_addresses: Callable[[], list[str]]) -> None:
        self._database = database
        self._cluster = cluster
        self._enrol_addresses = enrol_addresses

    async def CreateToken(
        self,
        request: pb.CreateOperatorTokenRequest,
        context: ServicerContext[pb.CreateOperatorTokenRequest, pb.CreateOperatorTokenReply],
    ) -> pb.CreateOperatorTokenReply:
        caller = caller_of(context)
        tenant_id = tenant_of(caller, request.tenant)
        ttl = life_of(request.ttl_seconds)
        async with self._database.transaction() as connection:
            if request.role != "admin":  # a login with it would change the role that the name has
                await keep_an_admin(connection, tenant_id=tenant_id, without=request.name)
            token, expires_at = await make_token(
                connection,
                self._cluster,
                tenant_id=tenant_id,
                tenant=caller.tenant,
                kind="operator",
                name=request.name,
                role=request.role,
                made_by=caller.name,
                ttl=ttl,
                enrol_addresses=self._enrol_addresses(),
            )
            await auditing.record(
                connection,
                caller,
                method="OperatorService/CreateToken",
                target=request.name,
                request_id=request.request_id,
                detail={"role": request.role},
            )
        return pb.CreateOperatorTokenReply(token=token.format(), expires_at=encode.timestamp(expires_at))

    async def List(
        self, request: pb.ListOperatorsRequest, context: ServicerContext[pb.ListOperatorsRequest, pb.ListOperatorsReply]
    ) -> pb.ListOperatorsReply:
        tenant_id = tenant_of(caller_of(context), request.tenant)
        async with self._database.connection() as connection:
            rows = await operator_table.list_operators(connection, tenant_id=tenant_id)
        return pb.ListOperatorsReply(operators=[_operator(row) for row in rows])

    async def ChangeRole(
        self, request: pb.ChangeRoleRequest, context: ServicerContext[pb.ChangeRoleRequest, pb.ChangeRoleReply]
    ) -> pb.ChangeRoleReply:
        caller = caller_of(context)
        tenant_id = tenant_of(caller, request.tenant)
        if request.role not in ROLES:
            raise InvalidInput(f"there is no role {request.role[:64]!r}", why=f"it is one of {', '.join(ROLES)}")
        async with self._database.transaction() as connection:
            if request.role != "admin":
                await keep_an_admin(connection, tenant_id=tenant_id, without=request.name)
            rows = {row.name: row for row in await operator_table.list_operators(connection, tenant_id=tenant_id)}
            row = rows.get(request.name)
            if row is None or row.revoked:
                raise no_such_operator(request.name, [name for name, found in rows.items() if not found.revoked])
            await operator_table.change_role(connection, tenant_id=tenant_id, name=row.name, role=request.role)
            await auditing.record(
                connection,
                caller,
                method="OperatorService/ChangeRole",
                target=row.name,
                request_id=request.request_id,
                detail={"from": row.role, "to": request.role},
            )
        changed = _operator(row)
        changed.role = request.role
        return pb.ChangeRoleReply(operator=changed, role_before=row.role)


async def keep_an_admin(connection: Connection, *, tenant_id: UUID, without: str) -> None:
    """Raise LastAdmin when the tenant would have no admin `without` this operator; holds its admins until the end."""
    if await operator_table.hold_admins(connection, tenant_id=tenant_id) == [without]:
        raise LastAdmin(why=f"{without} is the only admin of its tenant")


def life_of(seconds: int) -> timedelta:
    """Return how long a code lives; 0: ten minutes. Raises InvalidInput outside of 1 s to 24 h."""
    asked = seconds or DEFAULT_TTL.total_seconds()
    if not 1 <= asked <= LONGEST_TTL.total_seconds():
        raise InvalidInput("the code's life is out of range", why="it lies between 1 s and 24 h")
    return timedelta(seconds=asked)


def no_such_operator(name: str, known: list[str]) -> NotFound:
    """Return the error for a name that no operator has."""
    close = nearest(name, known)
    return NotFound(
        f"there is no operator {name[:80]!r}",
        why=f"the nearest names are {', '.join(close)}" if close else "no operator has a name like it",
        next_step="mosaic operator ls",
    )


def _operator(row: OperatorRow) -> pb.Operator:
    return pb.Operator(
        id=str(row.operator_id),
        name=row.name,
        role=row.role,
        tenant=row.tenant,
        made_at=encode.timestamp(row.made_at),
        revoked=row.revoked,
    )
