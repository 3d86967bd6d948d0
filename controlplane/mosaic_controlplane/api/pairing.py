"""PairingService: other clusters' way in, on the enrolment listener, where nobody is asked for a certificate."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import UUID

from mosaic_framework.errors import FleetError, InvalidInput, NotAuthenticated, TokenInvalid
from mosaic_proto.v1 import federation_pb2 as pb
from mosaic_proto.v1 import federation_pb2_grpc

from mosaic_controlplane.api import encode
from mosaic_controlplane.api.decoding import well_formed
from mosaic_controlplane.api.enrolment import SECRET_LIMIT
from mosaic_controlplane.api.failures import answering, peer_address_of, request_id_of
from mosaic_controlplane.federation.authentication import name_in, proven
from mosaic_controlplane.federation.errors import PeerRevoked, UnknownPeer
from mosaic_controlplane.federation.pairing import METHOD
from mosaic_controlplane.identity.pace import Bucket, PerPeer
from mosaic_controlplane.register import audit
from mosaic_controlplane.register import peer as peer_table

if TYPE_CHECKING:
    from grpc.aio import ServicerContext

    from mosaic_controlplane.api.admission import Admission
    from mosaic_controlplane.federation.pairing import Pairing
    from mosaic_controlplane.metrics import Metrics
    from mosaic_controlplane.register.database import Database
    from mosaic_controlplane.register.peer import PeerRow

STANDING = "mosaic.v1.PairingService/Standing"


class PairingService(federation_pb2_grpc.PairingServiceServicer):
    """Pairs clusters, and tells those that are not let in any more whether their pairing stands."""

    def __init__(self, database: Database, pairing: Pairing, admission: Admission, metrics: Metrics) -> None:
        self._database = database
        self._pairing = pairing
        self._admission = admission
        self._metrics = metrics
        self._unknown_audited = Bucket(rate=1, burst=60)
        # One that was forgotten here, as by a restore, asks whenever it dials, for as long as nobody ends it there.
        self._standings_audited = PerPeer(rate=1 / 600, burst=3)

    async def Pair(
        self, request: pb.PairRequest, context: ServicerContext[pb.PairRequest, pb.PairReply]
    ) -> pb.PairReply:
        async with answering(context, method=METHOD, request_id=request_id_of(request, context)):
            try:
                peer = peer_address_of(context)
                self._admission.knock(peer)
                if not well_formed(request).secret or len(request.secret) > SECRET_LIMIT:
                    raise TokenInvalid(why="its secret is missing or too long", next_step="copy the whole token")
                async with self._admission.place():
                    reply = await self._pairing.accept(
                        request, peer_address=peer, audit_unknown=self._unknown_audited.take()
                    )
            except FleetError as error:
                self._metrics.enrolled(type(error).code)
                raise
            self._metrics.enrolled("done")
            return reply
        raise AssertionError("a failed call was aborted")  # for the type checker: `answering` never swallows

    async def Standing(
        self, request: pb.StandingRequest, context: ServicerContext[pb.StandingRequest, pb.StandingReply]
    ) -> pb.StandingReply:
        async with answering(context, method=STANDING, request_id=request_id_of(request, context)):
            self._admission.knock(peer_address_of(context))
            try:
                peer_id = UUID(well_formed(request).peer_id)
                request.peer_id = str(peer_id)
            except ValueError as error:
                raise InvalidInput(f"{request.peer_id[:64]!r} is not a pairing's id") from error
            async with self._admission.place(), self._database.connection() as connection:
                peer = await peer_table.find(connection, peer_id)
            refused = _refused(peer, request)
            if refused is not None:
                await self._record(peer, request, refused, peer_address_of(context))
            if peer is not None and peer.stands:
                return pb.StandingReply(standing="paired", reason=refused.why if refused else "")
            if peer is None:
                return pb.StandingReply(standing="unknown")
            return pb.StandingReply(
                standing="revoked", revoked_at=encode.timestamp(peer.revoked_at), reason=peer.revoked_reason
            )
        raise AssertionError("a failed call was aborted")

    async def _record(
        self, peer: PeerRow | None, request: pb.StandingRequest, refused: FleetError, address: str
    ) -> None:
        """Write down that somebody is not let in: whose leaf TLS does not take is refused before it can call."""
        if not self._standings_audited.take(request.peer_id) or not self._unknown_audited.take():
            return
        detail = {"pairing": request.peer_id, "claimed": name_in(request.certificate_der), "why": refused.why}
        caller = peer if peer is not None and not peer.stands else None  # a leaf that is not a peer's may be anybody's
        async with self._database.connection() as connection:
            await audit.record(
                connection,
                tenant_id=peer.tenant_id if peer else None,
                caller_kind="peer" if caller else "unknown",
                caller_id=str(caller.peer_id) if caller else "",
                caller_name=caller.name if caller else "",
                peer_address=address,
                method=STANDING,
                target=f"peer/{peer.name}" if peer else "",
                outcome=type(refused).code,
                detail={name: text for name, text in detail.items() if text},
            )


def _refused(peer: PeerRow | None, request: pb.StandingRequest) -> FleetError | None:
    """Return how a call by whoever asks would be refused at the peer listener, if its leaf is said; None: let in."""
    if peer is None:
        return UnknownPeer()
    if not peer.stands:
        return PeerRevoked(why=peer.revoked_reason)
    if not request.certificate_der:
        return None
    try:
        proven(peer, ssl.DER_cert_to_PEM_cert(request.certificate_der).encode(), datetime.now(UTC))
    except NotAuthenticated as error:
        return error
    return None
