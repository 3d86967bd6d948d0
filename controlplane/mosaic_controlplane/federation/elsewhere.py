"""What is elsewhere: the peer that an address or a name means, and calls made there that may have to be made again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar
from uuid import UUID

from mosaic_framework.errors import Unreachable
from mosaic_framework.names import nearest, split_cluster
from mosaic_proto.v1 import federation_pb2_grpc

from mosaic_controlplane.federation.errors import NoSuchPeer, PeerRevoked
from mosaic_controlplane.identity.caller import Caller
from mosaic_controlplane.mesh import addresses
from mosaic_controlplane.register import peer as peer_table
from mosaic_controlplane.register.database import Connection, Database
from mosaic_controlplane.register.peer import PeerRow

if TYPE_CHECKING:
    from mosaic_controlplane.federation.outgoing import Outgoing
    from mosaic_controlplane.mesh.forwarding import Onward

Reply = TypeVar("Reply")


class NotReached(Exception):
    """No way to the peer was found: nothing was said to it. The cause is what a user is told."""

    def __init__(self, told: Unreachable) -> None:
        super().__init__(told.what)
        self.told = told


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A seat of a peer; `address` is what that one calls it: host/agent."""

    peer: PeerRow
    address: str

    @property
    def shown(self) -> str:
        """Return the whole address."""
        return f"{self.peer.name}/{self.address}"


async def of_peer(database: Database, *, tenant_id: UUID, address: str) -> Elsewhere | None:
    """Return the seat of a peer that an address means; None: of this cluster. Raises NoSuchPeer or PeerRevoked."""
    cluster, rest = split_cluster(address)
    if not cluster:
        return None
    async with database.connection() as connection:
        if await addresses.is_own(connection, cluster):
            return None
        return Elsewhere(await one_peer(connection, tenant_id=tenant_id, name=cluster), rest)


async def one_peer(connection: Connection, *, tenant_id: UUID, name: str) -> PeerRow:
    """Return the peer of that name that stands. Raises NoSuchPeer with the nearest names, or PeerRevoked."""
    found = await peer_table.named(connection, tenant_id=tenant_id, name=name)
    if found is not None and found.stands:
        return found
    if found is not None:
        raise PeerRevoked(
            f"the pairing with cluster {found.name} is over",
            why=found.revoked_reason
            or ("it was ended here" if found.revoked_by == peer_table.BY_US else "it ended it"),
            details={"peer": found.name},
        )
    peers = await peer_table.list_of_tenant(connection, tenant_id=tenant_id)
    names = sorted({one.name for one in peers if one.stands})
    close = nearest(name[:200], names)
    if close:
        why = f"the nearest peers are {', '.join(close)}"
    else:
        why = f"the peers are {', '.join(names[:6])}" if names else "this cluster is paired with no other"
    shown = name if len(name) <= 80 else f"{name[:80]}…"
    raise NoSuchPeer(f"there is no cluster {shown!r}", why=why, details={"nearest": " ".join(close)} if close else {})


async def ask(
    outgoing: Outgoing,
    peer: PeerRow,
    caller: Caller,
    call: Callable[[federation_pb2_grpc.FederationServiceAsyncStub, Onward], Awaitable[Reply]],
    *,
    request_id: str,
) -> Reply:
    """Make one call at a peer. Raises what it answers with; NotReached when it surely has heard nothing.

    Any other Unreachable leaves it open whether the call was carried out.
    """
    said = False
    try:
        async with outgoing.to(peer, caller, request_id=request_id) as onward:
            said = True
            stub: federation_pb2_grpc.FederationServiceAsyncStub = federation_pb2_grpc.FederationServiceStub(
                onward.channel
            )
            return await call(stub, onward)
    except Unreachable as error:
        if not said:
            raise NotReached(error) from error
        raise
