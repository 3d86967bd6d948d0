"""Pairing, on the side that was given the token: this cluster shows who it is, and checks who answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING
from uuid import UUID

import structlog
from cryptography import x509
from mosaic_framework import pki
from mosaic_framework.enrolment import PEER, JoinToken
from mosaic_framework.errors import InvalidInput, TokenInvalid
from mosaic_framework.names import check_name
from mosaic_proto.v1 import federation_pb2 as pb

from mosaic_controlplane.federation import proof
from mosaic_controlplane.federation.bundles import checked_addresses, checked_bundle
from mosaic_controlplane.federation.door import at_door
from mosaic_controlplane.federation.errors import AlreadyPaired, BadPairing, OwnCluster, TakesNoPeers
from mosaic_controlplane.federation.pairing import doors_of
from mosaic_controlplane.identity import auditing
from mosaic_controlplane.identity.bootstrap import ClusterIdentity, ServerIdentity
from mosaic_controlplane.identity.caller import PEER_ROLES, Caller
from mosaic_controlplane.register import peer as peer_table
from mosaic_controlplane.register.database import Connection, Database
from mosaic_controlplane.register.peer import NewPeer, PeerRow
from mosaic_controlplane.register.replica import Doors

if TYPE_CHECKING:
    from mosaic_proto.v1.federation_pb2_grpc import PairingServiceAsyncStub

ANSWER_SECONDS = 10.0

log = structlog.get_logger(__name__)


class Joining:
    """Pairs this cluster with those that made a token. `leaf` and `here` are asked at each call."""

    def __init__(
        self,
        database: Database,
        cluster: ClusterIdentity,
        leaf: Callable[[], ServerIdentity],
        here: Callable[[], Doors],
    ) -> None:
        self._database = database
        self._cluster = cluster
        self._leaf = leaf
        self._here = here

    async def join(
        self, token: JoinToken, caller: Caller, *, name: str, role: str, called: str, request_id: str
    ) -> PeerRow:
        """Pair with the cluster that made `token`; returns what it is here now.

        `name` is what it will be called here (default: what it calls itself), `called` what this one is believed to be
        called there (default: what the token says). When the answer is lost, the same again gets the same pairing.
        Raises TokenInvalid and the others of enrolment, OwnCluster, AlreadyPaired, BadPairing, Unreachable.
        """
        name = await self._check(token, caller, name, role)
        async with self._database.connection() as connection:
            doors = await doors_of(connection, self._here())
        if not doors.peer:
            raise TakesNoPeers()
        reply = await self._ask(token, self._request(token, caller, called or token.name, doors))
        new = _taken(token, reply, caller, name=name, role=role or PEER_ROLES[0], ours=self._cluster)
        async with self._database.transaction() as connection:
            if not await peer_table.add(connection, new):
                raise await _conflict(connection, new)
            await auditing.record(
                connection,
                caller,
                method="PeerService/Join",
                target=f"peer/{name}",
                request_id=request_id,
                detail={"pairing": str(new.peer_id), "trust_domain": new.trust_domain, "role": new.role},
            )
            made = await peer_table.find(connection, new.peer_id)
        assert made is not None
        log.info("paired with a cluster", peer=name, pairing=str(new.peer_id))
        return made

    async def _check(self, token: JoinToken, caller: Caller, name: str, role: str) -> str:
        """Return what the other cluster will be called here. Raises what can be told without asking it."""
        if token.kind != PEER:
            raise TokenInvalid(
                f"this token is for {token.kind} {token.name}, not for a cluster", next_step="mosaic peer token NAME"
            )
        if role and role not in PEER_ROLES:
            raise InvalidInput(f"there is no role {role[:64]!r}", why=f"it is one of {', '.join(PEER_ROLES)}")
        if token.trust_domain == self._cluster.trust_domain:
            raise OwnCluster()
        name = check_peer_name(name or token.cluster, ours=self._cluster.alias)
        async with self._database.connection() as connection:
            present = await peer_table.of_trust_domain(
                connection, tenant_id=caller.tenant_id, trust_domain=token.trust_domain
            )
            if present is not None:
                raise AlreadyPaired(
                    why=f"it is called {present.name} here", next_step=f"mosaic peer show {present.name}"
                )
            await check_free(connection, caller, name)
        return name

    def _request(self, token: JoinToken, caller: Caller, called: str, doors: Doors) -> pb.PairRequest:
        leaf = self._leaf()
        certificate = x509.load_pem_x509_certificate(leaf.certificate_pem)
        request = pb.PairRequest(
            secret=token.secret,
            name=called,
            trust_domain=self._cluster.trust_domain,
            cluster=self._cluster.alias,
            tenant=caller.tenant,
            authority_der=[pki.certificate_to_der(root) for root in self._cluster.roots],
            addresses=doors.peer,
            enrol_addresses=doors.enrol,
            certificate_der=pki.certificate_to_der(certificate),
            audience=token.trust_domain,
        )
        proof.sign(request, key_pem=leaf.key_pem)
        return request

    async def _ask(self, token: JoinToken, request: pb.PairRequest) -> pb.PairReply:
        roots = b"".join(pki.certificate_to_pem(x509.load_der_x509_certificate(der)) for der in token.roots_der)

        async def ask(stub: PairingServiceAsyncStub, seconds: float) -> pb.PairReply:
            return await stub.Pair(request, timeout=seconds)

        return await at_door(token.addresses, roots, ask, seconds=ANSWER_SECONDS)


def _taken(
    token: JoinToken, reply: pb.PairReply, caller: Caller, *, name: str, role: str, ours: ClusterIdentity
) -> NewPeer:
    """Return the pairing, if the answer is by whom the token promised. Raises BadPairing."""
    if reply.trust_domain != token.trust_domain:
        raise BadPairing("the server's answer is not what the token promised", why="it is of another trust domain")
    if not set(token.roots_der) & set(reply.authority_der):
        raise BadPairing(
            "the server's answer is not what the token promised", why="the token's authority does not stand behind it"
        )
    try:
        return NewPeer(
            tenant_id=caller.tenant_id,
            peer_id=UUID(reply.peer_id),
            name=name,
            trust_domain=reply.trust_domain,
            cluster=check_name(reply.cluster, what="cluster"),
            their_tenant=check_name(reply.tenant, what="tenant"),
            role=role,
            bundle=checked_bundle(reply.authority_der, trust_domain=reply.trust_domain, ours=ours.roots),
            addresses=checked_addresses(reply.addresses),
            enrol_addresses=checked_addresses(reply.enrol_addresses),
            paired_by=caller.name,
        )
    except (ValueError, InvalidInput) as error:
        raise BadPairing("the server's answer cannot be used", why=str(error)) from error


def check_peer_name(name: str, *, ours: str) -> str:
    """Return `name`. Raises InvalidInput unless a peer can be called that: this cluster itself is called `ours`."""
    check_name(name, what="cluster")
    if name == ours:
        raise InvalidInput(
            f"a peer cannot be called {name!r}",
            why="this cluster calls itself that, so that an address would mean both",
            next_step="give it another name (where you join: mosaic peer join --name NAME)",
        )
    return name


async def check_free(connection: Connection, caller: Caller, name: str) -> None:
    """Raise AlreadyPaired when a peer of that name stands."""
    present = await peer_table.named(connection, tenant_id=caller.tenant_id, name=name)
    if present is not None and present.stands:
        raise AlreadyPaired(
            f"another cluster is called {name} here",
            why=f"it was paired at {present.paired_at:%Y-%m-%d %H:%M:%S} UTC",
            next_step=f"choose another name, or end that first: mosaic peer revoke {name}",
        )


async def _conflict(connection: Connection, new: NewPeer) -> AlreadyPaired:
    known = await peer_table.find(connection, new.peer_id)
    if known is not None:
        return AlreadyPaired(
            "the other cluster answered with a pairing that is known here already",
            why=f"it is the one with {known.name}" if known.tenant_id == new.tenant_id else "it is of another tenant",
            next_step="mosaic peer ls",
        )
    return AlreadyPaired("another cluster was paired under that name meanwhile", next_step="mosaic peer ls")
