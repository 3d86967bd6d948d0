"""Calls to other clusters, by a replica of this one with its own leaf, each for whoever asked for it here.

async with self._outgoing.to(peer, caller, request_id=request.request_id) as onward:
    stub = FederationServiceStub(onward.channel)
    return await stub.Send(request, metadata=onward.metadata, timeout=onward.timeout)

async with self._outgoing.to(peer) as onward:                      # nobody asked: the control plane itself
    call = FederationServiceStub(onward.channel).Exchange(requests, metadata=onward.metadata)
    async for down in onward.replies(call):
        ...
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import UUID

import grpc
import grpc.aio
import structlog
from cryptography import x509
from mosaic_framework import pki, wire
from mosaic_framework.errors import FleetError, NotAuthenticated, NotLoggedIn, Unreachable
from mosaic_proto.v1 import common_pb2
from mosaic_proto.v1 import federation_pb2 as pb

from mosaic_controlplane.federation import parting
from mosaic_controlplane.federation.door import at_door
from mosaic_controlplane.federation.errors import PeerRevoked, PeerUnreachable
from mosaic_controlplane.identity.bootstrap import ClusterIdentity, ServerIdentity
from mosaic_controlplane.identity.caller import Caller
from mosaic_controlplane.identity.origin import AUDIENCE_KEY, ON_BEHALF_KEY, PAIRING_KEY, REQUEST_KEY
from mosaic_controlplane.mesh.forwarding import Onward
from mosaic_controlplane.register.database import Database
from mosaic_controlplane.register.peer import PeerRow
from mosaic_controlplane.register.peer_message import PeerMessageRow

if TYPE_CHECKING:
    from mosaic_proto.v1.federation_pb2_grpc import PairingServiceAsyncStub

CONNECT_SECONDS = 3.0
STANDING_SECONDS = 2.0

_KINDS = {
    "agent": common_pb2.PRINCIPAL_KIND_AGENT,
    "operator": common_pb2.PRINCIPAL_KIND_OPERATOR,
    "host": common_pb2.PRINCIPAL_KIND_HOST,
}

log = structlog.get_logger(__name__)


class Outgoing:
    """Makes calls at peers. `leaf` is asked at each call, for a replica renews its own."""

    def __init__(self, database: Database, cluster: ClusterIdentity, leaf: Callable[[], ServerIdentity]) -> None:
        self._database = database
        self._cluster = cluster
        self._leaf = leaf

    @asynccontextmanager
    async def to(self, peer: PeerRow, caller: Caller | None = None, *, request_id: str = "") -> AsyncIterator[Onward]:
        """Lend a way to `peer`, for a call that `caller` asked for; None: nobody but the control plane.

        A call that fails in the block raises what it failed with there, as a FleetError. Raises PeerUnreachable, which
        names the peer and when it was last heard of; PeerRevoked when the pairing is over, which is then written down
        here too.
        """
        if not peer.stands:
            raise _over(peer)
        async with self._connected(peer) as channel:
            try:
                yield Onward(channel, self._metadata(peer, caller, request_id))
            except grpc.RpcError as error:
                raise await self._meaning(peer, error) from error

    @asynccontextmanager
    async def _connected(self, peer: PeerRow) -> AsyncIterator[grpc.aio.Channel]:
        """Lend a channel to the first of the peer's listeners that answers."""
        leaf = self._leaf()
        addresses = random.sample(list(peer.addresses), len(peer.addresses))
        why = "it has told no address to reach it at"
        loop = asyncio.get_running_loop()
        until = loop.time() + CONNECT_SECONDS
        for position, address in enumerate(addresses):
            channel = wire.replica_channel(leaf.key_pem, leaf.certificate_pem, peer.bundle, address)
            async with channel:
                share = max(0.2, (until - loop.time()) / (len(addresses) - position))
                try:
                    async with asyncio.timeout(share):
                        if not await _connects(channel):
                            why = f"{address} takes no connection"
                            continue
                except TimeoutError:
                    why = f"no connection to {address} within {share:.1f} s"
                    continue
                yield channel
                return
        raise await self._away(peer, why)

    def _metadata(self, peer: PeerRow, caller: Caller | None, request_id: str) -> tuple[tuple[str, str | bytes], ...]:
        metadata: list[tuple[str, str | bytes]] = [
            (PAIRING_KEY, str(peer.peer_id)),
            (AUDIENCE_KEY, peer.trust_domain),
        ]
        if caller is not None:
            metadata.append((ON_BEHALF_KEY, originator(caller, cluster=self._cluster.alias).SerializeToString()))
        if request_id:
            metadata.append((REQUEST_KEY, request_id))
        return tuple(metadata)

    async def _meaning(self, peer: PeerRow, error: grpc.RpcError) -> FleetError:
        told = wire.error_from_rpc(error)
        if isinstance(told, PeerRevoked):  # it is the other side that says so: TLS has proven it
            await parting.parted(self._database, peer, reason=told.why)
            return _over(peer, told.why)
        if type(told) in (Unreachable, NotLoggedIn):  # gRPC's own word: it went away, or does not let us in
            return await self._away(peer, told.why)
        told.what = f"cluster {peer.name}: {told.what}"  # "this cluster", in there, is the other one
        told.details.setdefault("peer", peer.name)
        return told

    async def _away(self, peer: PeerRow, why: str) -> FleetError:
        """Return why there is no way to a peer: it may have ended the pairing, and then takes no leaf of ours."""
        try:
            standing = await self.standing(peer)
        except FleetError:
            standing = pb.StandingReply()
        if standing.standing == "revoked":
            await parting.parted(self._database, peer, reason=standing.reason)
            return _over(peer, standing.reason)
        if standing.standing == "unknown":
            return NotAuthenticated(
                f"cluster {peer.name} does not know this pairing any more",
                why="its register may have been restored from before it",
                next_step=f"mosaic peer revoke {peer.name}, then pair the two again",
            )
        if standing.standing == "paired" and standing.reason:
            why += f"; it does not take this replica's certificate: {standing.reason}"
        elif standing.standing == "paired":
            why += "; at its enrolment listener it says that the pairing stands"
        return PeerUnreachable(
            f"cluster {peer.name} cannot be reached; it was {heard(peer)}",
            why=why,
            details={"peer": peer.name, "heard_at": peer.heard_at.isoformat() if peer.heard_at else ""},
        )

    async def standing(self, peer: PeerRow) -> pb.StandingReply:
        """Ask the other side whether the pairing stands, and lets in this replica. Raises Unreachable, BadPairing."""
        leaf = x509.load_pem_x509_certificate(self._leaf().certificate_pem)
        request = pb.StandingRequest(peer_id=str(peer.peer_id), certificate_der=pki.certificate_to_der(leaf))

        async def ask(stub: PairingServiceAsyncStub, timeout: float) -> pb.StandingReply:
            return await stub.Standing(request, timeout=timeout)

        return await at_door(peer.enrol_addresses, peer.bundle, ask, seconds=STANDING_SECONDS)


async def _connects(channel: grpc.aio.Channel) -> bool:
    """Whether a channel gets through: known at once of one that is refused, which gRPC would try again and again."""
    while (state := channel.get_state(try_to_connect=True)) is not grpc.ChannelConnectivity.READY:
        if state in (grpc.ChannelConnectivity.TRANSIENT_FAILURE, grpc.ChannelConnectivity.SHUTDOWN):
            return False
        await channel.wait_for_state_change(state)
    return True


def originator(caller: Caller, *, cluster: str) -> pb.OriginatingIdentity:
    """Return what another cluster is told of the caller here."""
    return pb.OriginatingIdentity(
        principal=common_pb2.Principal(
            kind=_KINDS.get(caller.kind, common_pb2.PRINCIPAL_KIND_UNSPECIFIED),
            id=str(caller.id),
            name=caller.name,
            host=caller.host,
            tenant=caller.tenant,
        ),
        role=caller.role,
        cluster=cluster,
    )


def speaker_of(row: PeerMessageRow) -> Caller:
    """Return the caller for whom a message goes out, as `originator` wrote it down."""
    said = pb.OriginatingIdentity.FromString(row.origin)
    kinds = {number: kind for kind, number in _KINDS.items()}
    return Caller(
        kind=kinds.get(said.principal.kind, ""),
        tenant_id=row.tenant_id,
        tenant=row.tenant,
        id=UUID(said.principal.id),
        name=said.principal.name,
        role=said.role,
        identity_epoch=0,
        peer_address="",
        host=said.principal.host,
    )


def heard(peer: PeerRow) -> str:
    """Return when a peer was last heard of, as part of a sentence."""
    if peer.heard_at is None:
        return "never heard of yet"
    seconds = max(0, round((datetime.now(UTC) - peer.heard_at).total_seconds()))
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if seconds >= size:
            return f"last heard of {seconds // size} {unit} ago"
    return f"last heard of {seconds} s ago"


def _over(peer: PeerRow, reason: str = "") -> PeerRevoked:
    return PeerRevoked(
        f"the pairing with cluster {peer.name} is over",
        why=reason or peer.revoked_reason,
        details={"peer": peer.name},
    )
