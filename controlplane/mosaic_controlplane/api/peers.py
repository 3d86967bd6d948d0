"""PeerService: other clusters, as the people of this one deal with them. Policy: policy.yaml."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from mosaic_framework.enrolment import PEER, JoinToken
from mosaic_proto.v1 import federation_pb2, peers_pb2_grpc
from mosaic_proto.v1 import peers_pb2 as pb

from mosaic_controlplane.api import encode
from mosaic_controlplane.api.failures import request_id_of
from mosaic_controlplane.api.interceptor import caller_of
from mosaic_controlplane.api.people import life_of
from mosaic_controlplane.api.scope import tenant_of
from mosaic_controlplane.federation.errors import TakesNoPeers
from mosaic_controlplane.federation.joining import check_free, check_peer_name
from mosaic_controlplane.federation.peers import Asked, no_such_peer
from mosaic_controlplane.identity import auditing
from mosaic_controlplane.identity.caller import PEER_ROLES
from mosaic_controlplane.identity.tokens import make_token
from mosaic_controlplane.register import peer as peer_table
from mosaic_controlplane.register import peer_grant, replica

if TYPE_CHECKING:
    from uuid import UUID

    from grpc.aio import ServicerContext

    from mosaic_controlplane.federation.joining import Joining
    from mosaic_controlplane.federation.peers import Peers
    from mosaic_controlplane.identity.bootstrap import ClusterIdentity
    from mosaic_controlplane.identity.caller import Caller
    from mosaic_controlplane.register.database import Database
    from mosaic_controlplane.register.peer import Feed, PeerRow
    from mosaic_controlplane.register.peer_grant import GrantRow
    from mosaic_controlplane.register.replica import Doors

_HEALTH = {
    "paired": pb.PEER_HEALTH_PAIRED,
    "live": pb.PEER_HEALTH_LIVE,
    "stale": pb.PEER_HEALTH_STALE,
    "lost": pb.PEER_HEALTH_LOST,
}


@dataclass(frozen=True, slots=True)
class _Known:
    """All that is shown of a tenant's peers, at one moment of the database's."""

    at: datetime
    rows: Sequence[PeerRow]
    feeds: dict[UUID, Feed]
    grants: Sequence[GrantRow]


class PeerService(peers_pb2_grpc.PeerServiceServicer):
    """Peers of the caller's tenant. `here` are this replica's own doors, asked at each call."""

    def __init__(
        self, database: Database, cluster: ClusterIdentity, peers: Peers, joining: Joining, here: Callable[[], Doors]
    ) -> None:
        self._database = database
        self._cluster = cluster
        self._peers = peers
        self._joining = joining
        self._here = here

    async def CreateToken(
        self,
        request: pb.CreatePeerTokenRequest,
        context: ServicerContext[pb.CreatePeerTokenRequest, pb.CreatePeerTokenReply],
    ) -> pb.CreatePeerTokenReply:
        caller = self._caller(request, context)
        name, ttl = check_peer_name(request.name, ours=self._cluster.alias), life_of(request.ttl_seconds)
        here = self._here()
        if not here.peer:
            raise TakesNoPeers()
        async with self._database.transaction() as connection:
            await check_free(connection, caller, name)
            token, expires_at = await make_token(
                connection,
                self._cluster,
                tenant_id=caller.tenant_id,
                tenant=caller.tenant,
                kind=PEER,
                name=name,
                role=request.role or PEER_ROLES[0],
                made_by=caller.name,
                ttl=ttl,
                enrol_addresses=here.enrol,
            )
            await auditing.record(
                connection,
                caller,
                method="PeerService/CreateToken",
                target=f"peer/{name}",
                request_id=request.request_id,
                detail={"role": request.role or PEER_ROLES[0]},
            )
        return pb.CreatePeerTokenReply(token=token.format(), expires_at=encode.timestamp(expires_at))

    async def Join(
        self, request: pb.JoinPeerRequest, context: ServicerContext[pb.JoinPeerRequest, pb.PeerReply]
    ) -> pb.PeerReply:
        caller = self._caller(request, context)
        peer = await self._joining.join(
            JoinToken.parse(request.token),
            caller,
            name=request.name,
            role=request.role,
            called=getattr(request, "as"),
            request_id=request_id_of(request, context),
        )
        return await self._shown(caller, peer)

    async def List(
        self, request: pb.ListPeersRequest, context: ServicerContext[pb.ListPeersRequest, pb.ListPeersReply]
    ) -> pb.ListPeersReply:
        caller = self._caller(request, context)
        known = await self._known(caller)
        found = [row for row in known.rows if request.name in ("", row.name, str(row.peer_id))]
        if request.name and not found:
            raise no_such_peer(request.name, [row.name for row in known.rows])
        return pb.ListPeersReply(peers=[_peer(row, known) for row in found], at=encode.timestamp(known.at))

    async def Grant(
        self, request: pb.GrantRequest, context: ServicerContext[pb.GrantRequest, pb.PeerReply]
    ) -> pb.PeerReply:
        caller = self._caller(request, context)
        asked = Asked(request.kind, request.selector, request.fields, request.max, request.ttl_seconds)
        peer = await self._peers.grant(
            caller,
            request.peer,
            asked,
            request_id=encode.identifier(request.request_id, what="request id"),
            payload=request.SerializeToString(deterministic=True),
        )
        return await self._shown(caller, peer)

    async def Ungrant(
        self, request: pb.UngrantRequest, context: ServicerContext[pb.UngrantRequest, pb.PeerReply]
    ) -> pb.PeerReply:
        caller = self._caller(request, context)
        peer = await self._peers.ungrant(
            caller,
            request.peer,
            grants=request.grants,
            kind=request.kind,
            request_id=request_id_of(request, context),
        )
        return await self._shown(caller, peer)

    async def ChangeRole(
        self, request: pb.ChangePeerRoleRequest, context: ServicerContext[pb.ChangePeerRoleRequest, pb.PeerReply]
    ) -> pb.PeerReply:
        caller = self._caller(request, context)
        peer = await self._peers.change_role(
            caller, request.peer, request.role, request_id=request_id_of(request, context)
        )
        return await self._shown(caller, peer)

    async def Revoke(
        self, request: pb.RevokePeerRequest, context: ServicerContext[pb.RevokePeerRequest, pb.PeerReply]
    ) -> pb.PeerReply:
        caller = self._caller(request, context)
        peer = await self._peers.revoke(
            caller, request.peer, request.reason, request_id=request_id_of(request, context)
        )
        return await self._shown(caller, peer)

    async def Remove(
        self, request: pb.RemovePeerRequest, context: ServicerContext[pb.RemovePeerRequest, pb.PeerReply]
    ) -> pb.PeerReply:
        caller = self._caller(request, context)
        peer = await self._peers.remove(caller, request.peer, request_id=request_id_of(request, context))
        return pb.PeerReply(peer=_peer(peer, None))

    def _caller(
        self,
        request: pb.CreatePeerTokenRequest
        | pb.JoinPeerRequest
        | pb.ListPeersRequest
        | pb.GrantRequest
        | pb.UngrantRequest
        | pb.ChangePeerRoleRequest
        | pb.RevokePeerRequest
        | pb.RemovePeerRequest,
        context: object,
    ) -> Caller:
        """Return who calls, about their own tenant. Raises Denied for any other."""
        caller = caller_of(context)
        tenant_of(caller, request.tenant)
        return caller

    async def _known(self, caller: Caller) -> _Known:
        async with self._database.connection() as connection:
            return _Known(
                at=await replica.database_time(connection),
                rows=await peer_table.list_of_tenant(connection, tenant_id=caller.tenant_id),
                feeds=await peer_table.feeds(connection, tenant_id=caller.tenant_id),
                grants=await peer_grant.active_of_tenant(connection, tenant_id=caller.tenant_id),
            )

    async def _shown(self, caller: Caller, peer: PeerRow) -> pb.PeerReply:
        known = await self._known(caller)
        row = next((row for row in known.rows if row.peer_id == peer.peer_id), peer)
        return pb.PeerReply(peer=_peer(row, known))


def _peer(row: PeerRow, known: _Known | None) -> pb.PeerCluster:
    feed = known.feeds.get(row.peer_id) if known else None
    shown = pb.PeerCluster(
        id=str(row.peer_id),
        tenant=row.tenant,
        name=row.name,
        trust_domain=row.trust_domain,
        cluster=row.cluster,
        role=row.role,
        health=_HEALTH[feed.health if feed else "paired"] if row.stands else pb.PEER_HEALTH_REVOKED,
        heard_at=encode.timestamp(row.heard_at),
        paired_at=encode.timestamp(row.paired_at),
        revoked_at=encode.timestamp(row.revoked_at),
        revoked_by=row.revoked_by,
        revoked_reason=row.revoked_reason,
        addresses=row.addresses,
    )
    if row.revoked_by == peer_table.BY_US and row.told_at is None:
        shown.problem = "it could not be told yet; it finds out when it calls"
    if feed is None or known is None:
        return shown
    shown.problem, shown.version, shown.agents = feed.problem, feed.version, feed.agents
    shown.skipped.update(feed.skipped)
    shown.granted.extend(federation_pb2.GrantsHeld.FromString(feed.granted).grants)
    shown.grants.extend(grant(one) for one in known.grants if one.peer_id == row.peer_id)
    return shown


def grant(row: GrantRow) -> pb.PeerGrant:
    """Return a grant as it is told."""
    return pb.PeerGrant(
        id=str(row.grant_id),
        kind=row.kind,
        selector=row.selector,
        fields=row.fields,
        max=row.most,
        expires_at=encode.timestamp(row.expires_at),
        made_by=row.made_by,
        made_at=encode.timestamp(row.made_at),
    )
