"""Keys, certificates and SPIFFE ids."""

from __future__ import annotations

from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID
from mosaic_framework import pki, wire
from mosaic_framework.errors import InvalidInput
from mosaic_framework.pki import SpiffeId

IDS = [
    SpiffeId("abc.mosaic", "host", "builder", tenant="default"),
    SpiffeId("abc.mosaic", "operator", "ada", tenant="team-1"),
    SpiffeId("abc.mosaic", "replica", "0190b6e0-0000-7000-8000-000000000001"),
]


@pytest.mark.parametrize("spiffe_id", IDS, ids=str)
def test_a_spiffe_id_is_read_back_as_it_was_written(spiffe_id: SpiffeId) -> None:
    assert SpiffeId.parse(str(spiffe_id)) == spiffe_id


def test_spiffe_ids_look_as_the_architecture_says() -> None:
    assert [str(spiffe_id) for spiffe_id in IDS] == [
        "spiffe://abc.mosaic/tenant/default/host/builder",
        "spiffe://abc.mosaic/tenant/team-1/operator/ada",
        "spiffe://abc.mosaic/replica/0190b6e0-0000-7000-8000-000000000001",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "spiffe://abc.mosaic",
        "spiffe://abc.mosaic/",
        "http://abc.mosaic/tenant/default/host/builder",
        "spiffe://abc.mosaic/tenant/default/host/",
        "spiffe://abc.mosaic/tenant//host/builder",
        "spiffe://abc.mosaic/tenant/default/host/../operator/root",
        "spiffe://abc.mosaic/tenant/default/host/..",
        "spiffe://abc.mosaic/tenant/default/host/a/b",
        "spiffe://abc.mosaic/tenant/default/root/builder",
        "spiffe://abc.mosaic/tenant/default/replica/x",
        "spiffe://abc.mosaic/host/builder",
        "spiffe://ABC.mosaic/tenant/default/host/builder",
        "spiffe://abc.mosaic:443/tenant/default/host/builder",
        "spiffe://user@abc.mosaic/tenant/default/host/builder",
        "spiffe://abc.mosaic/tenant/default/host/builder?x=1",
        "spiffe://abc.mosaic/tenant/default/host/builder#x",
        "spiffe://abc.mosaic/tenant/default/host/%62uilder",
        "spiffe://abc.mosaic/tenant/default/host/builder\n",
        "spiffe://abc.mosaic/tenant/default/host/" + "x" * 300,
        "spiffe://" + "a." * 200 + "mosaic/tenant/default/host/builder",
    ],
)
def test_nothing_else_is_taken_for_a_spiffe_id(text: str) -> None:
    with pytest.raises(InvalidInput):
        SpiffeId.parse(text)


def test_a_leaf_says_who_it_is_and_no_more() -> None:
    authority = pki.Authority.create("abc.mosaic")
    key = pki.new_key()
    leaf = authority.issue(key.public_key(), IDS[0], identity_id="an-id", identity_epoch=3)
    leaf.verify_directly_issued_by(authority.certificate)
    extensions = leaf.extensions
    names = list(extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    assert names == [x509.UniformResourceIdentifier(str(IDS[0]))]
    assert leaf.subject.rfc4514_string() == "2.5.4.5=an-id:3,CN=builder"
    assert not extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert list(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [ExtendedKeyUsageOID.CLIENT_AUTH]


def test_only_a_replicas_leaf_can_serve() -> None:
    authority = pki.Authority.create("abc.mosaic")
    for spiffe_id in IDS:
        leaf = authority.issue(pki.new_key().public_key(), spiffe_id, identity_id="i", identity_epoch=1)
        usages = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        assert (ExtendedKeyUsageOID.SERVER_AUTH in usages) == (spiffe_id.kind == "replica")


def test_an_authority_signs_leaves_only_and_no_leaf_outlives_it() -> None:
    authority = pki.Authority.create("abc.mosaic", lifetime=timedelta(days=1))
    constraints = authority.certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert (constraints.ca, constraints.path_length) == (True, 0)
    leaf = authority.issue(pki.new_key().public_key(), IDS[0], identity_id="i", identity_epoch=1)
    assert leaf.not_valid_after_utc <= authority.certificate.not_valid_after_utc


def test_a_signing_request_names_nobody_and_gives_back_its_key() -> None:
    key = pki.new_key()
    der = pki.signing_request(key)
    assert list(x509.load_der_x509_csr(der).subject) == []
    assert pki.requested_key(der) == key.public_key()


def test_a_signing_request_with_a_false_signature_or_another_kind_of_key_is_refused() -> None:
    der = bytearray(pki.signing_request(pki.new_key()))
    der[-1] ^= 1
    stronger = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    other = stronger.sign(ec.generate_private_key(ec.SECP384R1()), pki.hashes.SHA256())
    for bad in (bytes(der), other.public_bytes(pki.serialization.Encoding.DER)):
        with pytest.raises(InvalidInput):
            pki.requested_key(bad)


def test_a_key_survives_its_file_and_other_keys_are_refused() -> None:
    key = pki.new_key()
    assert pki.key_from_pem(pki.key_to_pem(key)).private_numbers() == key.private_numbers()
    with pytest.raises(InvalidInput):
        pki.key_from_pem(b"rubbish")
    with pytest.raises(InvalidInput):
        pki.key_from_pem(pki.key_to_pem(ec.generate_private_key(ec.SECP384R1())))


def test_clients_expect_the_name_that_replicas_have() -> None:
    assert wire.SERVER_NAME == pki.SERVER_NAME
