"""IdentityService: renewal of leaves, and the end of identities. Policy: policy.yaml."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import structlog
from mosaic_framework import pki
from mosaic_framework.errors import Denied, InvalidInput, NotFound
from mosaic_framework.names import check_name, nearest
from mosaic_proto.v1 import common_pb2, identity_pb2_grpc
from mosaic_proto.v1 import identity_pb2 as pb

from mosaic_controlplane.api import encode
from mosaic_controlplane.api.failures import peer_address_of
from mosaic_controlplane.api.interceptor import caller_of
from mosaic_controlplane.api.people import keep_an_admin
from mosaic_controlplane.api.scope import tenant_of
from mosaic_controlplane.identity import auditing
from mosaic_controlplane.identity.bootstrap import ClusterIdentity
from mosaic_controlplane.identity.origin import current_origin
from mosaic_controlplane.identity.presented import Presented
from mosaic_controlplane.identity.renewal import renew
from mosaic_controlplane.mesh.wakes import Wakes
from mosaic_controlplane.register import identity, leaf, revocation
from mosaic_controlplane.register.database import Database
from mosaic_controlplane.register.identity import IdentityRow
from mosaic_controlplane.register.leaf import LeafRow
from mosaic_controlplane.register.replica import WakeKey
from mosaic_controlplane.register.revocation import Identity

if TYPE_CHECKING:
    from grpc.aio import ServicerContext

_KINDS = {common_pb2.PRINCIPAL_KIND_HOST: "host", common_pb2.PRINCIPAL_KIND_OPERATOR: "operator"}
_NUMBERS = {word: number for number, word in _KINDS.items()}
_REASON_LIMIT = 300

log = structlog.get_logger(__name__)


class IdentityService(identity_pb2_grpc.IdentityServiceServicer):
    """Identities of a tenant. `fleet_addresses` is asked at each renewal."""

    def __init__(
        self,
        database: Database,
        cluster: ClusterIdentity,
        presented: Presented,
        wakes: Wakes,
        fleet_addresses: Callable[[], Sequence[str]],
    ) -> None:
        self._database = database
        self._cluster = cluster
        self._presented = presented
        self._wakes = wakes
        self._fleet_addresses = fleet_addresses

    async def Renew(
        self, request: pb.RenewLeafRequest, context: ServicerContext[pb.RenewLeafRequest, pb.RenewLeafReply]
    ) -> pb.RenewLeafReply:
        caller = caller_of(context)
        renewed = await renew(
            self._database,
            self._cluster,
            caller,
            leaf_pem=current_origin().leaf_pem,
            key=pki.requested_key(request.signing_request_der),
            fleet_addresses=self._fleet_addresses(),
        )
        log.info("a leaf was renewed", caller=caller.key, name=caller.name)
        return pb.RenewLeafReply(
            certificate_der=pki.certificate_to_der(renewed.certificate),
            authority_der=[pki.certificate_to_der(root) for root in self._cluster.roots],
            fleet_addresses=renewed.fleet_addresses,
            not_after=encode.timestamp(renewed.certificate.not_valid_after_utc),
        )

    async def Present(
        self, request: pb.PresentRequest, context: ServicerContext[pb.PresentRequest, pb.PresentReply]
    ) -> pb.PresentReply:
        if current_origin().forwarded_by is not None:
            raise Denied("a leaf is shown on the connection that it is for", why="this call was handed on")
        of_the_connection = b"".join(context.auth_context().get("x509_pem_cert", ()))
        end = self._presented.take(
            of_the_connection, peer_address_of(context), request.certificate_der, request.signature
        )
        return pb.PresentReply(not_after=encode.timestamp(end))

    async def List(
        self,
        request: pb.ListIdentitiesRequest,
        context: ServicerContext[pb.ListIdentitiesRequest, pb.ListIdentitiesReply],
    ) -> pb.ListIdentitiesReply:
        tenant_id = tenant_of(caller_of(context), request.tenant)
        kind = _kind(request.kind) if request.kind else ""
        leaves: dict[str, list[LeafRow]] = {}
        async with self._database.connection() as connection:
            rows = await identity.list_identities(connection, tenant_id=tenant_id, kind=kind)
            found = [row for row in rows if not request.name or row.name == request.name]
            for row in found if request.name else ():
                one = Identity(tenant_id, row.kind, row.identity_id, row.identity_epoch)
                leaves[str(row.identity_id)] = await leaf.valid_of(connection, one)
        if request.name and not found:
            raise _no_such(kind or "identity", request.name, [row.name for row in rows])
        return pb.ListIdentitiesReply(
            identities=[_encode(row, leaves.get(str(row.identity_id), [])) for row in found],
            at=encode.timestamp(found[0].at) if found else None,
        )

    async def Revoke(
        self, request: pb.RevokeRequest, context: ServicerContext[pb.RevokeRequest, pb.RevokeReply]
    ) -> pb.RevokeReply:
        caller = caller_of(context)
        tenant_id = tenant_of(caller, request.tenant)
        kind = _kind(request.kind)
        check_name(request.name, what=kind)
        reason = request.reason[:_REASON_LIMIT].replace("\0", "")
        revoke = revocation.revoke_host if kind == "host" else revocation.revoke_operator
        async with self._database.transaction() as connection:
            if kind == "operator":
                await keep_an_admin(connection, tenant_id=tenant_id, without=request.name)
            done = await revoke(connection, tenant_id=tenant_id, name=request.name, by=caller.name, reason=reason)
            if done is None:
                rows = await identity.list_identities(connection, tenant_id=tenant_id, kind=kind)
                raise _no_such(kind, request.name, [row.name for row in rows])
            await auditing.record(
                connection,
                caller,
                tenant_id=tenant_id,
                method="IdentityService/Revoke",
                target=f"{kind}/{request.name}",
                request_id=request.request_id,
                detail={"reason": reason, "already": str(done.already).lower()},
            )
            (row,) = await identity.list_identities(connection, tenant_id=tenant_id, kind=kind, name=request.name)
        if not done.already:
            log.warning("an identity was revoked", kind=kind, name=request.name, by=caller.name)
            self._wakes.tell(
                WakeKey.change(tenant_id), *(WakeKey.message(tenant_id, message_id) for message_id in done.messages)
            )
        return pb.RevokeReply(
            identity=_encode(row, []),
            already=done.already,
            cards=done.cards,
            messages=len(done.messages),
            tokens=done.tokens,
        )


def _kind(number: common_pb2.PrincipalKind.ValueType) -> str:
    if number not in _KINDS:
        raise InvalidInput("only hosts and operators have identities here", why="replicas issue their own leaves")
    return _KINDS[number]


def _no_such(kind: str, name: str, names: Sequence[str]) -> NotFound:
    close = nearest(name, names)
    return NotFound(
        f"there is no {kind} {name[:80]!r}",
        why=f"the nearest names are {', '.join(close)}" if close else "none has a name like it",
        next_step="mosaic identity ls",
    )


def _encode(row: IdentityRow, leaves: Sequence[LeafRow]) -> pb.Identity:
    return pb.Identity(
        kind=_NUMBERS[row.kind],
        id=str(row.identity_id),
        tenant=row.tenant,
        name=row.name,
        role=row.role,
        identity_epoch=row.identity_epoch,
        state=row.state,
        made_at=encode.timestamp(row.made_at),
        valid_until=encode.timestamp(row.valid_until),
        revoked_at=encode.timestamp(row.revoked_at),
        revoked_by=row.revoked_by,
        revoked_reason=row.revoked_reason,
        leaves=[
            pb.Leaf(
                serial=one.serial,
                issued_at=encode.timestamp(one.issued_at),
                not_after=encode.timestamp(one.not_after),
                authority_id=str(one.authority_id),
                replaced=one.replaced,
            )
            for one in leaves
        ],
    )
