"""FederationService: what other clusters call here, within what is granted to them. Policy: policy.yaml."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from mosaic_proto.v1 import federation_pb2 as pb
from mosaic_proto.v1 import federation_pb2_grpc

from mosaic_controlplane.api.failures import request_id_of
from mosaic_controlplane.api.federation_claims import PeerClaimCalls
from mosaic_controlplane.api.federation_seats import PeerSeatCalls
from mosaic_controlplane.api.interceptor import caller_of
from mosaic_controlplane.backlog.backlog import Backlog
from mosaic_controlplane.federation import parting
from mosaic_controlplane.federation.claims import PeerClaims
from mosaic_controlplane.federation.errors import UnknownPeer
from mosaic_controlplane.federation.receiving import PeerMessages
from mosaic_controlplane.federation.terminals import PeerTerminals
from mosaic_controlplane.register import peer as peer_table
from mosaic_controlplane.register.database import Connection, Database
from mosaic_controlplane.register.peer import PeerRow

if TYPE_CHECKING:
    from grpc.aio import ServicerContext

    from mosaic_controlplane.federation.exchange import Exchange
    from mosaic_controlplane.identity.caller import Caller


class FederationService(PeerSeatCalls, PeerClaimCalls, federation_pb2_grpc.FederationServiceServicer):
    """One class for all that a peer may call; each subject is a module of `federation`, which it hands the call to."""

    def __init__(
        self,
        database: Database,
        exchange: Exchange,
        *,
        messages: PeerMessages,
        terminals: PeerTerminals,
        claims: PeerClaims,
        backlog: Backlog,
    ) -> None:
        self._database = database
        self._exchange = exchange
        self._messages = messages
        self._terminals = terminals
        self._claims = claims
        self._backlog = backlog

    async def Exchange(
        self, request_iterator: AsyncIterator[pb.ExchangeUp], context: ServicerContext[pb.ExchangeUp, pb.ExchangeDown]
    ) -> AsyncIterator[pb.ExchangeDown]:
        async for down in self._exchange.serve(caller_of(context), request_iterator):
            yield down

    async def Part(
        self, request: pb.PartRequest, context: ServicerContext[pb.PartRequest, pb.PartReply]
    ) -> pb.PartReply:
        caller = caller_of(context)
        async with self._database.connection() as connection:
            peer = await peer_of(connection, caller)
        await parting.parted(
            self._database,
            peer,
            reason=request.reason,
            peer_address=caller.peer_address,
            request_id=request_id_of(request, context),
        )
        return pb.PartReply()


async def peer_of(connection: Connection, caller: Caller) -> PeerRow:
    """Return the peer that calls. Raises UnknownPeer when it is gone since it was authenticated."""
    peer = await peer_table.find(connection, caller.id)
    if peer is None or not peer.stands:
        raise UnknownPeer(details={"pairing": str(caller.id)})
    return peer
