"""What a peer's certificate proves. Pure: no register, no clock of its own.

TLS has checked the chain by then, but a bundle that holds several roots lets each of them sign names of the others, and
TLS knows nothing of our names. So everything is checked again here, against the roots of the one trust domain claimed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from mosaic_framework.errors import InvalidInput, NotAuthenticated
from mosaic_framework.pki import SpiffeId

_SERIAL = re.compile(r"(?P<id>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}):(?P<epoch>[1-9][0-9]{0,17})")


@dataclass(frozen=True, slots=True)
class Claims:
    """What a leaf of ours says. `not_after` is aware UTC."""

    spiffe_id: SpiffeId
    identity_id: UUID
    identity_epoch: int
    not_after: datetime


def verify(pem: bytes, *, trust_domain: str, roots: Sequence[x509.Certificate], now: datetime) -> Claims:
    """Return what the leaf `pem` proves at `now`. Raises NotAuthenticated, with the reason, unless all of it holds:

    a P-256 leaf that is no authority, for client use, within its time, issued directly by a root of `trust_domain` that
    is within its own, with exactly one URI name, a SPIFFE id of that trust domain whose name is also the subject's.
    """
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        _check_form(certificate)
        _check_time(certificate, now)
        _check_issuer(certificate, roots, now)
        return _read(certificate, trust_domain)
    except NotAuthenticated:
        raise
    except Exception as error:  # a parser met bytes that a stranger chose: whatever it raises, they are refused
        raise _refused("it cannot be read") from error


def _check_form(certificate: x509.Certificate) -> None:
    if certificate.version is not x509.Version.v3:
        raise _refused("it is not a version 3 certificate")
    key = certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise _refused("its key is not ECDSA P-256")
    extensions = certificate.extensions
    if extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
        raise _refused("it is an authority, not a leaf")
    if not extensions.get_extension_for_class(x509.KeyUsage).value.digital_signature:
        raise _refused("its key may not sign")
    if ExtendedKeyUsageOID.CLIENT_AUTH not in extensions.get_extension_for_class(x509.ExtendedKeyUsage).value:
        raise _refused("it is not for clients")


def _check_time(certificate: x509.Certificate, now: datetime) -> None:
    if now < certificate.not_valid_before_utc:
        raise _refused("it is not valid yet")
    if now >= certificate.not_valid_after_utc:
        raise _refused("it has expired")


def _check_issuer(certificate: x509.Certificate, roots: Sequence[x509.Certificate], now: datetime) -> None:
    for root in roots:
        if not root.not_valid_before_utc <= now < root.not_valid_after_utc:
            continue
        try:
            certificate.verify_directly_issued_by(root)
        except (ValueError, TypeError, InvalidSignature):
            continue
        return
    raise _refused("no authority of this cluster issued it")


def _read(certificate: x509.Certificate, trust_domain: str) -> Claims:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    if len(uris) != 1:
        raise _refused("it does not have exactly one URI name")
    try:
        spiffe_id = SpiffeId.parse(uris[0])
    except InvalidInput as error:
        raise _refused("its URI name is not a SPIFFE id of ours") from error
    if spiffe_id.trust_domain != trust_domain:
        raise _refused("it is of another trust domain")
    subject = {attribute.oid: str(attribute.value) for attribute in certificate.subject}
    if len(subject) != len(list(certificate.subject)) or subject.get(NameOID.COMMON_NAME) != spiffe_id.name:
        raise _refused("its subject and its SPIFFE id differ")
    serial = _SERIAL.fullmatch(subject.get(NameOID.SERIAL_NUMBER, ""))
    if serial is None:
        raise _refused("its subject has no identity id and epoch")
    return Claims(spiffe_id, UUID(serial["id"]), int(serial["epoch"]), certificate.not_valid_after_utc)


def _refused(why: str) -> NotAuthenticated:
    return NotAuthenticated(why=why, next_step="log in again (mosaic login), or join the host again (mosaic host join)")
