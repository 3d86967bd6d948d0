"""Enrolment over the wire: strangers with a token call here, so everything is bounded before it costs anything."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from grpc.aio import ServicerContext
from mosaic_framework import pki
from mosaic_framework.enrolment import KINDS
from mosaic_framework.errors import FleetError, InvalidInput, TokenInvalid
from mosaic_framework.names import check_name
from mosaic_proto.v1 import enrolment_pb2 as pb
from mosaic_proto.v1 import enrolment_pb2_grpc

from mosaic_controlplane.api.admission import Admission
from mosaic_controlplane.api.decoding import well_formed
from mosaic_controlplane.api.failures import answering, peer_address_of, request_id_of
from mosaic_controlplane.config import Settings
from mosaic_controlplane.identity.bootstrap import ClusterIdentity
from mosaic_controlplane.identity.enrolment import METHOD, Enrolled, Joiner, enrol
from mosaic_controlplane.identity.pace import Bucket
from mosaic_controlplane.metrics import Metrics
from mosaic_controlplane.register.database import Database

SECRET_LIMIT = 256


class EnrolmentService(enrolment_pb2_grpc.EnrolmentServiceServicer):
    """Turns tokens into certificates. `fleet_addresses` is asked at each call: a port of 0 is known only once bound.

    It stands on a listener of its own that authenticates nobody, hence no interceptor. An address, and all of them
    together, may try as often as the settings say; 4 attempts at a time reach the register.
    """

    def __init__(
        self,
        database: Database,
        cluster: ClusterIdentity,
        *,
        fleet_addresses: Callable[[], Sequence[str]] = tuple,
        settings: Settings | None = None,
        metrics: Metrics | None = None,
        admission: Admission | None = None,
    ) -> None:
        settings = settings or Settings()
        self._database = database
        self._cluster = cluster
        self._fleet_addresses = fleet_addresses
        self._metrics = metrics or Metrics()
        self._admission = admission or Admission(settings)
        self._unknown_audited = Bucket(rate=1, burst=60)

    async def Enrol(
        self, request: pb.EnrolRequest, context: ServicerContext[pb.EnrolRequest, pb.EnrolReply]
    ) -> pb.EnrolReply:
        """Answer a joiner."""
        async with answering(context, method=METHOD, request_id=request_id_of(request, context)):
            try:
                enrolled = await self._enrol(request, peer_address_of(context))
            except FleetError as error:
                self._metrics.enrolled(type(error).code)
                raise
            self._metrics.enrolled("done")
            return self._encode(enrolled)
        raise AssertionError("a failed call was aborted")  # for the type checker: `answering` never swallows

    async def _enrol(self, request: pb.EnrolRequest, peer: str) -> Enrolled:
        self._admission.knock(peer)
        joiner = _decode(well_formed(request), peer)
        async with self._admission.place():
            return await enrol(
                self._database,
                self._cluster,
                joiner,
                fleet_addresses=self._fleet_addresses(),
                audit_unknown=self._unknown_audited.take(),
            )

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
