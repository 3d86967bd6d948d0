"""Keys, certificates and SPIFFE ids. ECDSA P-256 throughout: Ed25519 leaves fail in gRPC's TLS.

A leaf's subject is CN=<name>, serialNumber="<identity id>:<identity epoch>"; its one URI SAN is the SPIFFE id, which
says who it is. Times are aware UTC.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mosaic_framework.errors import InvalidInput
from mosaic_framework.names import check_name

LEAF_LIFETIME = timedelta(hours=24)  # renewed at half of it; a stolen one is of use for no longer
AUTHORITY_LIFETIME = timedelta(days=3650)
CLOCK_SKEW = timedelta(minutes=10)  # a machine whose clock is a little behind may still use what it just got
SERVER_NAME = "mosaic-controlplane"  # DNS SAN of every replica; clients dial any address and expect this name
SIGNING_REQUEST_LIMIT = 16 * 1024

_TRUST_DOMAIN = re.compile(r"[a-z0-9][a-z0-9-]{0,62}(\.[a-z0-9][a-z0-9-]{0,62})*")
_TENANT_KINDS = ("host", "operator")


class BadSpiffeId(InvalidInput):
    """This is not a SPIFFE id of ours."""

    code = "bad-spiffe-id"


@dataclass(frozen=True, slots=True)
class SpiffeId:
    """Who a certificate speaks for: a host or operator of a tenant, or a replica (whose tenant is empty)."""

    trust_domain: str
    kind: str
    name: str
    tenant: str = ""

    def __post_init__(self) -> None:
        check_trust_domain(self.trust_domain)
        check_name(self.name, what=self.kind)
        if self.kind in _TENANT_KINDS:
            check_name(self.tenant, what="tenant")
        elif self.kind != "replica" or self.tenant:
            raise BadSpiffeId(f"there is no identity of kind {self.kind[:80]!r} in tenant {self.tenant[:80]!r}")

    def __str__(self) -> str:
        tenant = f"/tenant/{self.tenant}" if self.tenant else ""
        return f"spiffe://{self.trust_domain}{tenant}/{self.kind}/{self.name}"

    @classmethod
    def parse(cls, text: str) -> SpiffeId:
        """Return the id that `text` spells exactly. Raises InvalidInput otherwise."""
        scheme, _, rest = text.partition("://")
        parts = rest.split("/")
        if scheme == "spiffe" and len(parts) == 3:
            return cls(parts[0], parts[1], parts[2])
        if scheme == "spiffe" and len(parts) == 5 and parts[1] == "tenant" and parts[3] in _TENANT_KINDS:
            return cls(parts[0], parts[3], parts[4], tenant=parts[2])
        raise BadSpiffeId(f"{text[:200]!r} is not a SPIFFE id of ours")


def check_trust_domain(text: str) -> str:
    """Return `text`. Raises BadSpiffeId unless it can be a cluster's trust domain."""
    if len(text) > 255 or not _TRUST_DOMAIN.fullmatch(text):
        raise BadSpiffeId(f"{text[:80]!r} is not a trust domain")
    return text


def new_key() -> ec.EllipticCurvePrivateKey:
    """Return a new P-256 key. It stays where it is made."""
    return ec.generate_private_key(ec.SECP256R1())


def key_to_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return `key` as unencrypted PKCS#8; for files that only their owner can read."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def key_from_pem(pem: bytes) -> ec.EllipticCurvePrivateKey:
    """Return the P-256 key of a PEM file. Raises InvalidInput on anything else."""
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError) as error:
        raise InvalidInput("this is not a private key", why="the file is damaged or of another kind") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise InvalidInput("this private key is of the wrong kind", why="keys are ECDSA P-256")
    return key


def certificate_to_pem(certificate: x509.Certificate) -> bytes:
    """Return a certificate as PEM."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def certificate_to_der(certificate: x509.Certificate) -> bytes:
    """Return a certificate as DER."""
    return certificate.public_bytes(serialization.Encoding.DER)


def public_key_der(key: ec.EllipticCurvePublicKey) -> bytes:
    """Return a public key as SubjectPublicKeyInfo: what identifies a joiner who asks twice."""
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def issuer_among(certificate: x509.Certificate, roots: Iterable[x509.Certificate]) -> x509.Certificate | None:
    """Return the root that issued `certificate`, or None. Roots of a cluster share their name: the signature tells."""
    for root in roots:
        try:
            certificate.verify_directly_issued_by(root)
        except (ValueError, TypeError, InvalidSignature):
            continue
        return root
    return None


def bundle_digest(bundle_pem: bytes) -> bytes:
    """Return what tells one bundle of roots from another, in whichever order they stand: a SHA-256."""
    roots = sorted(certificate_to_der(root) for root in x509.load_pem_x509_certificates(bundle_pem))
    return hashlib.sha256(b"".join(roots)).digest()


def lifetime_of(certificate: x509.Certificate) -> timedelta:
    """Return for how long a leaf of ours was issued."""
    return certificate.not_valid_after_utc - certificate.not_valid_before_utc - CLOCK_SKEW


def serial_of(certificate: x509.Certificate) -> str:
    """Return a certificate's number in hex."""
    return f"{certificate.serial_number:x}"


def signing_request(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return a PKCS#10 request (DER) that names nobody: the server sets the name."""
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.DER)


def requested_key(der: bytes) -> ec.EllipticCurvePublicKey:
    """Return the public key of a PKCS#10 request whose sender holds the private key. The names in it are not read.

    Raises InvalidInput on rubbish, a false signature, or a key that is not P-256.
    """
    bad = InvalidInput("the certificate signing request is not valid", next_step="update mosaic on this machine")
    if len(der) > SIGNING_REQUEST_LIMIT:
        raise bad
    try:
        request = x509.load_der_x509_csr(der)
        key = request.public_key()
        signed = request.is_signature_valid
    except Exception as error:  # an anonymous caller's bytes: whatever the parser raises, they are refused
        raise bad from error
    if not signed or not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise bad
    return key


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate authority of one trust domain, with its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def create(cls, trust_domain: str, *, lifetime: timedelta = AUTHORITY_LIFETIME) -> Authority:
        """Make a new root that may sign leaves only."""
        check_trust_domain(trust_domain)
        key = new_key()
        now = datetime.now(UTC)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, trust_domain)])
        identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - CLOCK_SKEW)
            .not_valid_after(now + lifetime)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .add_extension(identifier, critical=False)
            .add_extension(
                x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"spiffe://{trust_domain}")]),
                critical=False,
            )
            .sign(key, hashes.SHA256())
        )
        return cls(certificate, key)

    def issue(
        self,
        public_key: ec.EllipticCurvePublicKey,
        spiffe_id: SpiffeId,
        *,
        identity_id: str,
        identity_epoch: int,
        dns_names: Sequence[str] = (),
        lifetime: timedelta = LEAF_LIFETIME,
    ) -> x509.Certificate:
        """Return a leaf for `spiffe_id`. Only a replica's may also serve. Never outlives the authority."""
        now = datetime.now(UTC)
        subject = x509.Name(
            [
                x509.NameAttribute(NameOID.COMMON_NAME, spiffe_id.name),
                x509.NameAttribute(NameOID.SERIAL_NUMBER, f"{identity_id}:{identity_epoch}"),
            ]
        )
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH]
        if spiffe_id.kind == "replica":
            usages.append(ExtendedKeyUsageOID.SERVER_AUTH)
        names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(str(spiffe_id))]
        names += [x509.DNSName(name) for name in dns_names]
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.certificate.subject)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - CLOCK_SKEW)
            .not_valid_after(min(now + lifetime, self.certificate.not_valid_after_utc))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()),
                critical=False,
            )
            .sign(self.key, hashes.SHA256())
        )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )
