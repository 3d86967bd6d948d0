"""Enrolment over the wire: strangers with a token call here, so everything is bounded before it costs anything."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from grpc.aio import ServicerContext
from mosaic_framework import pki
from mosaic_framework.enrolment import KINDS
from mosaic_framework.errors import InvalidInput, TokenInvalid, TooManyAttempts
from mosaic_framework.names import check_name
from mosaic_proto.v1 import enrolment_pb2 as pb
from mosaic_proto.v1 import enrolment_pb2_grpc

from mosaic_controlplane.api.failures import answering, peer_address_of, request_id_of
from mosaic_controlplane.identity.bootstrap import ClusterIdentity
from mosaic_controlplane.identity.enrolment import METHOD, Enrolled, Joiner, enrol
from mosaic_controlplane.identity.pace import Bucket, PerPeer
from mosaic_controlplane.register.database import Database

SECRET_LIMIT = 256
AT_ONCE = 4  # so that joiners never hold more than half of the register's connections


class EnrolmentService(enrolment_pb2_grpc.EnrolmentServiceServicer):
    """Turns tokens into certificates. `fleet_addresses` is asked at each call: a port of 0 is known only once bound.

    It stands on a listener of its own that authenticates nobody, hence no interceptor. A peer may try 5 times a second
    (20 at once), all peers together 50 times, of which 4 at a time reach the register.
    """

    def __init__(
        self,
        database: Database,
        cluster: ClusterIdentity,
        *,
        fleet_addresses: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        self._database = database
        self._cluster = cluster
        self._fleet_addresses = fleet_addresses
        self._per_peer = PerPeer(rate=5, burst=20)
        self._together = Bucket(rate=50, burst=100)
        self._unknown_audited = Bucket(rate=1, burst=60)
        self._places = asyncio.Semaphore(AT_ONCE)

    async def Enrol(
        self, request: pb.EnrolRequest, context: ServicerContext[pb.EnrolRequest, pb.EnrolReply]
    ) -> pb.EnrolReply:
        """Answer a joiner."""
        async with answering(context, method=METHOD, request_id=request_id_of(request, context)):
            peer = peer_address_of(context)
            if not self._per_peer.take(peer.rpartition(":")[0]) or not self._together.take():
                raise TooManyAttempts("too many attempts to join at once")
            joiner = _decode(request, peer)
            async with self._places:
                enrolled = await enrol(
                    self._database,
                    self._cluster,
                    joiner,
                    fleet_addresses=self._fleet_addresses(),
                    audit_unknown=self._unknown_audited.take(),
                )
            return self._encode(enrolled)
        raise AssertionError("a failed call was aborted")  # for the type checker: `answering` never swallows

    def _encode(self, enrolled: Enrolled) -> pb.EnrolReply:
        reply = pb.EnrolReply(
            certificate_der=pki.certificate_to_der(enrolled.certificate),
            authority_der=[pki.certificate_to_der(root) for root in self._cluster.roots],
            spiffe_id=str(enrolled.spiffe_id),
            identity_id=str(enrolled.identity_id),
            identity_epoch=enrolled.identity_epoch,
            tenant=enrolled.spiffe_id.tenant,
            trust_domain=self._cluster.trust_domain,
            cluster=self._cluster.alias,
            fleet_addresses=enrolled.fleet_addresses,
        )
        reply.not_after.FromDatetime(enrolled.certificate.not_valid_after_utc)
        return reply


def _decode(request: pb.EnrolRequest, peer: str) -> Joiner:
    kind = {number: word for word, number in KINDS.items()}.get(request.kind)
    if kind is None:
        raise InvalidInput("only hosts and operators can join")
    if not request.secret or len(request.secret) > SECRET_LIMIT:
        raise TokenInvalid(why="its secret is missing or too long", next_step="copy the whole token")
    return Joiner(
        secret=request.secret,
        kind=kind,
        name=check_name(request.name, what=kind),
        key=pki.requested_key(request.signing_request_der),
        peer_address=peer,
    )
