"""Which peer a call is from: the pairing it names, for this cluster, by a leaf of that pairing's own bundle."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

from cryptography import x509
from google.protobuf.message import DecodeError
from mosaic_framework.errors import NotAuthenticated
from mosaic_proto.v1 import common_pb2
from mosaic_proto.v1 import federation_pb2 as pb

from mosaic_controlplane.federation.bundles import roots_of
from mosaic_controlplane.federation.errors import PeerRevoked, UnknownPeer, WrongAudience
from mosaic_controlplane.identity.authenticate import Authenticated
from mosaic_controlplane.identity.bootstrap import ClusterIdentity
from mosaic_controlplane.identity.caller import Caller
from mosaic_controlplane.identity.origin import Origin
from mosaic_controlplane.identity.verify import Claims, verify
from mosaic_controlplane.register import peer as peer_table
from mosaic_controlplane.register.database import Database
from mosaic_controlplane.register.peer import PeerRow

_LONGEST = 64

_KINDS = {
    common_pb2.PRINCIPAL_KIND_OPERATOR: "operator",
    common_pb2.PRINCIPAL_KIND_AGENT: "agent",
    common_pb2.PRINCIPAL_KIND_HOST: "host",
    common_pb2.PRINCIPAL_KIND_CONNECTOR: "connector",
}


class PeerAuthenticator:
    """Identifies other clusters. Nothing is remembered: a revocation counts with the next call."""

    def __init__(self, database: Database, cluster: ClusterIdentity) -> None:
        self._database = database
        self._cluster = cluster

    async def identify(self, origin: Origin, *, at_most: datetime | None = None) -> Authenticated:
        """Return the peer that a call is from, as it stands now.

        `at_most`: the end of a leaf that was accepted before; it is taken as of then, should it have ended meanwhile.
        Raises UnknownPeer, PeerRevoked, WrongAudience, NotAuthenticated, RegisterUnreachable.
        """
        try:
            peer_id = UUID(origin.pairing)
        except ValueError:
            raise UnknownPeer("this call does not say which pairing it is of") from None
        if origin.audience != self._cluster.trust_domain:
            raise WrongAudience(why=f"it says that it is meant for {origin.audience[:80] or 'nobody'}")
        async with self._database.connection() as connection:
            peer = await peer_table.find(connection, peer_id)
        if peer is None:
            raise UnknownPeer(details={"pairing": str(peer_id)})
        if not peer.stands:
            raise PeerRevoked(
                why=peer.revoked_reason or f"it was ended at {peer.revoked_at:%Y-%m-%d %H:%M:%S} UTC",
                details={"pairing": str(peer_id)},
            )
        now = datetime.now(UTC)
        claims = proven(peer, origin.leaf_pem, now if at_most is None else min(now, at_most - timedelta(seconds=1)))
        caller = Caller(
            kind="peer",
            tenant_id=peer.tenant_id,
            tenant=peer.tenant,
            id=peer.peer_id,
            name=peer.name,
            role=peer.role,
            identity_epoch=1,  # a pairing has one: its id is never used again
            peer_address=origin.peer_address,
            on_behalf_of=_told(origin.on_behalf_of),
        )
        return Authenticated(caller, claims.not_after)


def proven(peer: PeerRow, leaf_pem: bytes, now: datetime) -> Claims:
    """Return what a leaf proves, by the bundle of the peer alone. Raises NotAuthenticated, with the reason."""
    try:
        claims = verify(leaf_pem, trust_domain=peer.trust_domain, roots=roots_of(peer.bundle), now=now)
    except NotAuthenticated as error:
        raise NotAuthenticated(
            f"this call is not by the cluster of pairing {peer.peer_id}", why=error.why, next_step=UnknownPeer.hint
        ) from error
    if claims.spiffe_id.kind != "replica":
        raise NotAuthenticated(
            f"a {claims.spiffe_id.kind} of another cluster is nobody here", why="its control plane calls for it"
        )
    return claims


def name_in(leaf_der: bytes) -> str:
    """Return who a leaf says that it is, to be written down of one that is not let in; '' when it says nothing."""
    try:
        names = x509.load_der_x509_certificate(leaf_der).extensions.get_extension_for_class(x509.SubjectAlternativeName)
        return _clean(" ".join(names.value.get_values_for_type(x509.UniformResourceIdentifier)), 200)
    except (ValueError, TypeError, x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        return ""


def _told(content: bytes) -> str:
    """Return for whom a peer says that it calls, as people read it: it is written down, and proves nothing."""
    if not content:
        return ""
    try:
        said = pb.OriginatingIdentity.FromString(content)
    except DecodeError:
        return "somebody who cannot be read"
    kind = _KINDS.get(said.principal.kind, "somebody")
    role = f" ({_clean(said.role)})" if said.role else ""
    return f"{kind} {_clean(said.principal.name)}{role} of cluster {_clean(said.cluster)}"


def _clean(text: str, longest: int = _LONGEST) -> str:
    return "".join(character if character.isprintable() else "?" for character in text[:longest])
