"""That a cluster is who it says when it pairs: a replica's leaf, by a root of the bundle it shows, signs all it says.

The secret proves that it was asked; the signature, that whoever found the token cannot pair as somebody else, and that
what was said to one cluster is of no use at another.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from mosaic_framework import pki
from mosaic_framework.errors import FleetError, InvalidInput
from mosaic_framework.names import check_name
from mosaic_proto.v1 import federation_pb2 as pb

from mosaic_controlplane.federation.bundles import checked_addresses, checked_bundle, roots_of
from mosaic_controlplane.federation.errors import BadPairing
from mosaic_controlplane.identity.verify import verify

_PURPOSE = b"mosaic pair"


@dataclass(frozen=True, slots=True)
class Proven:
    """Another cluster, as it has proven to be. `bundle` is PEM; `key_digest` tells it from others who say its name."""

    trust_domain: str
    cluster: str
    tenant: str
    bundle: bytes = field(repr=False)
    addresses: Sequence[str]
    enrol_addresses: Sequence[str]
    certificate_der: bytes = field(repr=False)

    @property
    def key_digest(self) -> bytes:
        """Return the SHA-256 of its trust domain and its roots."""
        return hashlib.sha256(self.trust_domain.encode() + b"\0" + pki.bundle_digest(self.bundle)).digest()


def statement(request: pb.PairRequest) -> bytes:
    """Return what is signed: every field but the signature, each with its length, so that none runs into another."""
    texts: list[Sequence[str]] = [
        [request.secret, request.name, request.trust_domain, request.cluster, request.tenant, request.audience],
        request.addresses,
        request.enrol_addresses,
    ]
    fields = [[text.encode() for text in group] for group in texts]
    fields += [list(request.authority_der), [request.certificate_der]]
    signed = _PURPOSE
    for group in fields:
        signed += len(group).to_bytes(4, "big")
        signed += b"".join(len(content).to_bytes(4, "big") + content for content in group)
    return signed


def sign(request: pb.PairRequest, *, key_pem: bytes) -> None:
    """Sign `request` with the key of the leaf in it."""
    request.signature = pki.key_from_pem(key_pem).sign(statement(request), ec.ECDSA(hashes.SHA256()))


def check(request: pb.PairRequest, *, ours: Collection[x509.Certificate], now: datetime) -> Proven:
    """Return whom `request` proves to come from. `ours` are this cluster's roots, which nobody else may show.

    Raises BadPairing, with the reason.
    """
    try:
        trust_domain = pki.check_trust_domain(request.trust_domain)
        cluster, tenant = check_name(request.cluster, what="cluster"), check_name(request.tenant, what="tenant")
        addresses = checked_addresses(request.addresses)
        enrol_addresses = checked_addresses(request.enrol_addresses)
    except InvalidInput as error:
        raise BadPairing(f"{error.what}", why=error.why or "it is what the other cluster says of itself") from error
    bundle = checked_bundle(request.authority_der, trust_domain=trust_domain, ours=ours)
    _check_signature(request, trust_domain, bundle, now)
    return Proven(trust_domain, cluster, tenant, bundle, addresses, enrol_addresses, request.certificate_der)


def _check_signature(request: pb.PairRequest, trust_domain: str, bundle: bytes, now: datetime) -> None:
    try:
        leaf = x509.load_der_x509_certificate(request.certificate_der)
        claims = verify(pki.certificate_to_pem(leaf), trust_domain=trust_domain, roots=roots_of(bundle), now=now)
        if claims.spiffe_id.kind != "replica":
            raise _false(f"a {claims.spiffe_id.kind}'s certificate does not speak for a cluster")
        key = leaf.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)  # `verify` has seen to that
        key.verify(request.signature, statement(request), ec.ECDSA(hashes.SHA256()))
    except InvalidSignature as error:
        raise _false("what it says was not signed with its certificate's key") from error
    except FleetError as error:
        if isinstance(error, BadPairing):
            raise
        raise _false(error.why) from error
    except ValueError as error:
        raise _false("its certificate cannot be read") from error


def _false(why: str) -> BadPairing:
    return BadPairing("the other cluster does not prove that it is who it says", why=why)
