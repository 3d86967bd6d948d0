"""A corpus of certificates that must prove nothing, each wrong in one way; and the one that is right."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from mosaic_controlplane.identity.verify import verify
from mosaic_framework import pki
from mosaic_framework.errors import NotAuthenticated

DOMAIN = "abc.mosaic"
NOW = datetime.now(UTC)
ID = "0190b6e0-0000-7000-8000-000000000001"
URI = f"spiffe://{DOMAIN}/tenant/default/host/builder"
AUTHORITY = pki.Authority.create(DOMAIN)
STRANGER = pki.Authority.create(DOMAIN)
KEY = pki.new_key()

Bend = Callable[[dict[str, Any]], None]


def leaf(bend: Bend | None = None) -> bytes:
    """Return a right leaf, or one bent in one way, as PEM."""
    parts: dict[str, Any] = {
        "key": KEY.public_key(),
        "issuer": AUTHORITY.certificate.subject,
        "signer": AUTHORITY.key,
        "subject": [(NameOID.COMMON_NAME, "builder"), (NameOID.SERIAL_NUMBER, f"{ID}:2")],
        "names": [x509.UniformResourceIdentifier(URI)],
        "from": NOW - timedelta(hours=1),
        "until": NOW + timedelta(hours=1),
        "ca": False,
        "signs": True,
        "usages": [ExtendedKeyUsageOID.CLIENT_AUTH],
        "hash": hashes.SHA256(),
    }
    if bend:
        bend(parts)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(oid, text) for oid, text in parts["subject"]]))
        .issuer_name(parts["issuer"])
        .public_key(parts["key"])
        .serial_number(x509.random_serial_number())
        .not_valid_before(parts["from"])
        .not_valid_after(parts["until"])
    )
    usage = dict.fromkeys(
        (
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "key_cert_sign",
            "crl_sign",
            "encipher_only",
            "decipher_only",
        ),
        False,
    )
    builder = builder.add_extension(x509.KeyUsage(digital_signature=parts["signs"], **usage), critical=True)
    if parts["ca"] is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca=parts["ca"], path_length=None), critical=True)
    if parts["usages"]:
        builder = builder.add_extension(x509.ExtendedKeyUsage(parts["usages"]), critical=False)
    if parts["names"]:
        builder = builder.add_extension(x509.SubjectAlternativeName(parts["names"]), critical=False)
    return builder.sign(parts["signer"], parts["hash"]).public_bytes(serialization.Encoding.PEM)


def setting(**changes: Any) -> Bend:
    return lambda parts: parts.update(changes)


def uris(*texts: str) -> Bend:
    return setting(names=[x509.UniformResourceIdentifier(text) for text in texts])


def subject(*pairs: tuple[x509.ObjectIdentifier, str]) -> Bend:
    return setting(subject=list(pairs))


def under_an_intermediate(parts: dict[str, Any]) -> None:
    """Issued by a leaf of ours, as anyone who joined could try."""
    parts["issuer"] = x509.load_pem_x509_certificate(leaf()).subject
    parts["signer"] = KEY


NAME, SERIAL = (NameOID.COMMON_NAME, "builder"), (NameOID.SERIAL_NUMBER, f"{ID}:2")

CORPUS: dict[str, tuple[Bend, str]] = {
    "expired": (setting(until=NOW - timedelta(seconds=1)), "expired"),
    "ending now": (setting(until=NOW.replace(microsecond=0)), "expired"),
    "not valid yet": (setting(**{"from": NOW + timedelta(minutes=1)}), "not valid yet"),
    "another authority of the same name": (setting(signer=STRANGER.key), "no authority"),
    "an authority of another name": (
        setting(signer=pki.new_key(), issuer=x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")])),
        "no authority",
    ),
    "not directly issued": (under_an_intermediate, "no authority"),
    "self-signed": (
        setting(signer=KEY, issuer=x509.Name([x509.NameAttribute(*NAME), x509.NameAttribute(*SERIAL)])),
        "no authority",
    ),
    "an authority itself": (setting(ca=True), "an authority"),
    "no basic constraints": (setting(ca=None), "cannot be read"),
    "a key that may not sign": (setting(signs=False), "may not sign"),
    "for servers only": (setting(usages=[ExtendedKeyUsageOID.SERVER_AUTH]), "not for clients"),
    "for nothing in particular": (setting(usages=[]), "cannot be read"),
    "another trust domain": (uris("spiffe://xyz.mosaic/tenant/default/host/builder"), "another trust domain"),
    "a longer trust domain": (uris(f"spiffe://{DOMAIN}.evil/tenant/default/host/builder"), "another trust domain"),
    "two URIs": (uris(URI, f"spiffe://{DOMAIN}/tenant/default/operator/root"), "exactly one"),
    "the same URI twice": (uris(URI, URI), "exactly one"),
    "no URI": (setting(names=[x509.DNSName("mosaic-controlplane")]), "exactly one"),
    "no names": (setting(names=[]), "cannot be read"),
    "a path that climbs": (uris(f"spiffe://{DOMAIN}/tenant/default/host/../operator/root"), "not a SPIFFE id"),
    "a kind we do not have": (uris(f"spiffe://{DOMAIN}/tenant/default/root/builder"), "not a SPIFFE id"),
    "no scheme": (uris(f"{DOMAIN}/tenant/default/host/builder"), "not a SPIFFE id"),
    "a subject that says otherwise": (subject((NameOID.COMMON_NAME, "other"), SERIAL), "differ"),
    "two common names": (subject(NAME, (NameOID.COMMON_NAME, "other"), SERIAL), "differ"),
    "no common name": (subject(SERIAL), "differ"),
    "no identity": (subject(NAME), "no identity id"),
    "an identity without an epoch": (subject(NAME, (NameOID.SERIAL_NUMBER, ID)), "no identity id"),
    "an epoch of zero": (subject(NAME, (NameOID.SERIAL_NUMBER, f"{ID}:0")), "no identity id"),
    "an epoch with a sign": (subject(NAME, (NameOID.SERIAL_NUMBER, f"{ID}:+2")), "no identity id"),
    "an epoch beyond the register": (subject(NAME, (NameOID.SERIAL_NUMBER, f"{ID}:{10**20}")), "no identity id"),
    "an identity that is no UUID": (subject(NAME, (NameOID.SERIAL_NUMBER, "1 or 1=1:2")), "no identity id"),
    "a P-384 key": (setting(key=ec.generate_private_key(ec.SECP384R1()).public_key()), "not ECDSA P-256"),
    "an RSA key": (setting(key=rsa.generate_private_key(65537, 2048).public_key()), "not ECDSA P-256"),
    "an Ed25519 key": (setting(key=ed25519.Ed25519PrivateKey.generate().public_key()), "not ECDSA P-256"),
}


def check(pem: bytes, *, now: datetime = NOW, roots: list[x509.Certificate] | None = None) -> Any:
    return verify(pem, trust_domain=DOMAIN, roots=[AUTHORITY.certificate] if roots is None else roots, now=now)


def test_the_certificate_that_is_right_proves_its_holder() -> None:
    claims = check(leaf())
    assert str(claims.spiffe_id) == URI
    assert (str(claims.identity_id), claims.identity_epoch) == (ID, 2)


@pytest.mark.parametrize(("bend", "why"), CORPUS.values(), ids=CORPUS)
def test_a_certificate_that_is_wrong_in_one_way_proves_nothing(bend: Bend, why: str) -> None:
    with pytest.raises(NotAuthenticated) as refused:
        check(leaf(bend))
    assert why in refused.value.why


@pytest.mark.parametrize("pem", [b"", b"rubbish", leaf()[:-60], b"\0" * 100, leaf().replace(b"A", b"B", 40)])
def test_rubbish_proves_nothing(pem: bytes) -> None:
    with pytest.raises(NotAuthenticated):
        check(pem)


def test_a_leaf_proves_nothing_once_its_root_has_ended_or_is_gone() -> None:
    forever = leaf(setting(until=NOW + timedelta(days=9000)))
    assert check(forever)
    with pytest.raises(NotAuthenticated):
        check(forever, now=NOW + timedelta(days=4000))
    with pytest.raises(NotAuthenticated):
        check(forever, roots=[])


def test_an_older_root_still_counts_beside_the_newest() -> None:
    assert check(leaf(), roots=[STRANGER.certificate, AUTHORITY.certificate])
