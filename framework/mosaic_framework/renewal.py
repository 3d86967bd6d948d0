"""Renewing a leaf: a new key, a new certificate for the same identity, and how it is shown where the old one is in use.

Nothing here makes a call: hosts make it with asyncio and people's commands without, both with what is here.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from mosaic_proto.v1 import identity_pb2 as pb

from mosaic_framework import pki
from mosaic_framework.errors import Denied
from mosaic_framework.identity_files import StoredIdentity, alone

HALF_LIFE = (0.45, 0.55)
"""When to renew, as parts of a leaf's life: half of it, and not all of a fleet at one moment."""

_PRESENT = b"mosaic present "


class FalseRenewal(Denied):
    """The server answered with a certificate that is not a renewal of this identity."""

    code = "false-renewal"
    hint = "do not use this server; ask an admin of the cluster"


@dataclass(frozen=True, slots=True)
class Renewal:
    """One try to renew `identity`, with a key of its own."""

    identity: StoredIdentity
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def of(cls, identity: StoredIdentity) -> Renewal:
        """Begin one."""
        return cls(identity, pki.new_key())

    def request(self) -> pb.RenewLeafRequest:
        """Return what to send."""
        return pb.RenewLeafRequest(signing_request_der=pki.signing_request(self.key))

    def taken(self, reply: pb.RenewLeafReply) -> StoredIdentity:
        """Return the identity with what the reply brought, not yet saved.

        Raises FalseRenewal unless it is a certificate for this key and this identity, by a root of the bundle told.
        """
        try:
            certificate = x509.load_der_x509_certificate(reply.certificate_der)
            bundle = [x509.load_der_x509_certificate(der) for der in reply.authority_der]
            names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            uris = names.get_values_for_type(x509.UniformResourceIdentifier)
            (serial,) = certificate.subject.get_attributes_for_oid(NameOID.SERIAL_NUMBER)
        except Exception as error:  # whatever a parser raises, it is not what was asked for
            raise FalseRenewal(why="it cannot be read") from error
        mine = self.identity
        if certificate.public_key() != self.key.public_key():
            raise FalseRenewal(why="it is for another key")
        if uris != [mine.spiffe_id] or serial.value != f"{mine.identity_id}:{mine.identity_epoch}":
            raise FalseRenewal(why=f"it is not for {mine.spiffe_id}")
        if pki.issuer_among(certificate, bundle) is None:
            raise FalseRenewal(why="no root that came with it issued it")
        return replace(
            mine,
            key_pem=pki.key_to_pem(self.key),
            certificate_pem=pki.certificate_to_pem(certificate),
            bundle_pem=b"".join(pki.certificate_to_pem(root) for root in bundle),
            fleet_addresses=list(reply.fleet_addresses) or mine.fleet_addresses,
            not_after=certificate.not_valid_after_utc.astimezone(UTC),
            renew_at=renew_at(certificate),
        )


def renew_at(certificate: x509.Certificate, *, now: datetime | None = None) -> datetime:
    """Return when to renew a leaf that came just now, by this machine's clock, however wrong that one is."""
    share = random.uniform(*HALF_LIFE)  # noqa: S311  spread, not a secret
    return (now or datetime.now(UTC)) + pki.lifetime_of(certificate) * share


def pause_after_failure(identity: StoredIdentity, *, now: datetime | None = None) -> float:
    """Return for how many seconds to wait after a renewal that failed: a part of what is left, at most a minute."""
    left = (identity.not_after - (now or datetime.now(UTC))) / timedelta(seconds=1)
    return random.uniform(0.5, 1.0) * min(60.0, max(1.0, left / 10))  # noqa: S311  spread, not a secret


def presentation(old_certificate_pem: bytes, new: StoredIdentity) -> pb.PresentRequest:
    """Return what shows the leaf of `new` on a connection that was made with the older one."""
    older = x509.load_pem_x509_certificate(old_certificate_pem)
    signature = pki.key_from_pem(new.key_pem).sign(_signed(older), ec.ECDSA(hashes.SHA256()))
    newer = x509.load_pem_x509_certificate(new.certificate_pem)
    return pb.PresentRequest(certificate_der=pki.certificate_to_der(newer), signature=signature)


def is_presented(older: x509.Certificate, newer: x509.Certificate, signature: bytes) -> bool:
    """Say whether whoever holds the newer leaf's key vouches for the connection of the older one."""
    key = newer.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        return False
    try:
        key.verify(signature, _signed(older), ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


def _signed(older: x509.Certificate) -> bytes:
    return _PRESENT + hashlib.sha256(pki.certificate_to_der(older)).digest()


def renewed(
    folder: Path, known: StoredIdentity, ask: Callable[[pb.RenewLeafRequest], pb.RenewLeafReply]
) -> StoredIdentity:
    """Return the identity in `folder` as it is after a renewal, which `ask` makes unless another process has made one.

    `known` is what this process holds. Processes take turns: two commands at once renew once.
    """
    with alone(folder):
        stored = StoredIdentity.load(folder)
        if stored.certificate_pem != known.certificate_pem and not stored.due():
            return stored
        renewal = Renewal.of(stored)
        fresh = renewal.taken(ask(renewal.request()))
        fresh.save(folder)
        return fresh
