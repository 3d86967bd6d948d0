"""Enrolment over the wire: strangers with a token call here, so everything is bounded before it costs anything."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable, Sequence

from grpc.aio import ServicerContext
from mosaic_framework import pki
from mosaic_framework.enrolment import KINDS
from mosaic_framework.errors import FleetError, InvalidInput, TokenInvalid, TooManyAttempts
from mosaic_framework.names import check_name
from mosaic_proto.v1 import enrolment_pb2 as pb
from mosaic_proto.v1 import enrolment_pb2_grpc

from mosaic_controlplane.api.decoding import well_formed
from mosaic_controlplane.api.failures import answering, peer_address_of, request_id_of
from mosaic_controlplane.config import Settings
from mosaic_controlplane.identity.bootstrap import ClusterIdentity
from mosaic_controlplane.identity.enrolment import METHOD, Enrolled, Joiner, enrol
from mosaic_controlplane.identity.pace import Bucket, PerPeer
from mosaic_controlplane.metrics import Metrics
from mosaic_controlplane.register.database import Database

SECRET_LIMIT = 256
AT_ONCE = 4  # so that joiners never hold more than half of the register's connections
WAITING = 64  # joiners that wait for a place; to more it is said when to come again
WAIT_SECONDS = 2.0


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
    ) -> None:
        settings = settings or Settings()
        self._database = database
        self._cluster = cluster
        self._fleet_addresses = fleet_addresses
        self._metrics = metrics or Metrics()
        each, together = settings.limit_enrolments_per_address, settings.limit_enrolments_per_second
        self._per_peer = PerPeer(rate=each, burst=max(1, round(2 * each)))
        self._together = Bucket(rate=together, burst=max(1, round(2 * together)))
        self._waiting = 0
        self._unknown_audited = Bucket(rate=1, burst=60)
        self._places = asyncio.Semaphore(AT_ONCE)

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
        self._admit(neighbourhood(peer))
        joiner = _decode(well_formed(request), peer)
        self._waiting += 1
        try:
            async with self._places:
                return await enrol(
                    self._database,
                    self._cluster,
                    joiner,
                    fleet_addresses=self._fleet_addresses(),
                    audit_unknown=self._unknown_audited.take(),
                )
        finally:
            self._waiting -= 1

    def _admit(self, place: str) -> None:
        what = "too many attempts to join at once"
        if not self._per_peer.take(place):
            raise TooManyAttempts.until(what, seconds=self._per_peer.wait(place), why=f"they come from {place}")
        if not self._together.take():
            raise TooManyAttempts.until(what, seconds=self._together.wait(), why="they come from many addresses")
        if self._waiting >= WAITING:
            raise TooManyAttempts.until(what, seconds=WAIT_SECONDS, why=f"{self._waiting} wait to be looked at")

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


def neighbourhood(peer: str) -> str:
    """Return what counts as one address: an IPv4 address, or the /64 from which an IPv6 machine takes its own."""
    host = peer.rpartition(":")[0].strip("[]").partition("%")[0]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, 64), strict=False))
