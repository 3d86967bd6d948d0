"""Whether an identity and a listener still take each other, at a real gRPC listener with mutual TLS."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
from mosaic_cli.machine.trust import trusted_both_ways
from mosaic_framework import pki
from mosaic_framework.identity_files import StoredIdentity
from mosaic_framework.ids import new_id

DOMAIN = "east.mosaic"


def leaf(authority: pki.Authority, name: str) -> tuple[bytes, bytes]:
    """Return key and certificate (PEM)."""
    key, identity_id = pki.new_key(), str(new_id())
    certificate = authority.issue(
        key.public_key(),
        pki.SpiffeId.parse(f"spiffe://{DOMAIN}/{name}"),
        identity_id=identity_id,
        identity_epoch=1,
        dns_names=[pki.SERVER_NAME],
    )
    return pki.key_to_pem(key), pki.certificate_to_pem(certificate)


def identity(authority: pki.Authority, *trusted: pki.Authority) -> StoredIdentity:
    """Return an operator's identity by `authority`, who takes servers of those that are `trusted`."""
    key_pem, certificate_pem = leaf(authority, "tenant/default/operator/ada")
    return StoredIdentity(
        kind="operator",
        name="ada",
        tenant="default",
        identity_id=str(new_id()),
        identity_epoch=1,
        spiffe_id=f"spiffe://{DOMAIN}/tenant/default/operator/ada",
        trust_domain=DOMAIN,
        cluster="east",
        fleet_addresses=[],
        not_after=datetime.now(UTC) + timedelta(hours=1),
        key_pem=key_pem,
        certificate_pem=certificate_pem,
        bundle_pem=b"".join(pki.certificate_to_pem(one.certificate) for one in trusted),
    )


@contextmanager
def listener(shown_by: pki.Authority, *taken: pki.Authority) -> Iterator[str]:
    """Serve with a leaf by `shown_by`, taking callers' leaves of those that are `taken`; lends its address."""
    server = grpc.server(futures.ThreadPoolExecutor(1))
    credentials = grpc.ssl_server_credentials(
        [leaf(shown_by, f"replica/{new_id()}")],
        b"".join(pki.certificate_to_pem(one.certificate) for one in taken),
        require_client_auth=True,
    )
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


def test_an_identity_and_a_listener_of_the_same_roots_take_each_other(tmp_path: Path) -> None:
    root = pki.Authority.create(DOMAIN)
    with listener(root, root) as address:
        assert trusted_both_ways(identity(root, root), address, private=tmp_path)
    assert list(tmp_path.iterdir()) == [], "no key is left"


def test_a_listener_that_shows_a_leaf_of_a_root_unknown_to_the_identity_is_not_taken(tmp_path: Path) -> None:
    old, new = pki.Authority.create(DOMAIN), pki.Authority.create(DOMAIN)
    with listener(new, old, new) as address:
        assert not trusted_both_ways(identity(old, old), address, private=tmp_path)


def test_an_identity_by_a_root_that_the_listener_trusts_no_more_is_not_taken(tmp_path: Path) -> None:
    old, new = pki.Authority.create(DOMAIN), pki.Authority.create(DOMAIN)
    with listener(new, new) as address:
        assert not trusted_both_ways(identity(old, old, new), address, private=tmp_path)


def test_nothing_is_said_against_an_identity_where_nobody_listens(tmp_path: Path) -> None:
    root = pki.Authority.create(DOMAIN)
    with listener(root, root) as address:
        pass
    assert trusted_both_ways(identity(root, root), address, private=tmp_path)
