"""An identity on disk."""

from __future__ import annotations

import stat
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from mosaic_framework.errors import FleetError, NotLoggedIn
from mosaic_framework.identity_files import FILE, StoredIdentity
from mosaic_framework.paths import UnsafePath

IDENTITY = StoredIdentity(
    kind="host",
    name="builder",
    tenant="default",
    identity_id="0190b6e0-0000-7000-8000-000000000001",
    identity_epoch=1,
    spiffe_id="spiffe://abc.mosaic/tenant/default/host/builder",
    trust_domain="abc.mosaic",
    cluster="home",
    fleet_addresses=["127.0.0.1:7443"],
    not_after=datetime(2030, 1, 1, tzinfo=UTC),
    key_pem=b"private key\n",
    certificate_pem=b"certificate\n",
    bundle_pem=b"bundle\n",
)


def test_an_identity_is_read_back_as_it_was_saved(tmp_path: Path) -> None:
    IDENTITY.save(tmp_path / "host")
    replace(IDENTITY, identity_epoch=2).save(tmp_path / "host")
    assert StoredIdentity.load(tmp_path / "host") == replace(IDENTITY, identity_epoch=2)


def test_an_identity_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    IDENTITY.save(tmp_path / "pki" / "host")
    assert stat.S_IMODE((tmp_path / "pki" / "host").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "pki" / "host" / FILE).stat().st_mode) == 0o600


def test_a_key_that_others_can_read_is_not_used(tmp_path: Path) -> None:
    IDENTITY.save(tmp_path)
    (tmp_path / FILE).chmod(0o640)
    with pytest.raises(UnsafePath) as refused:
        StoredIdentity.load(tmp_path)
    assert "chmod 600" in refused.value.next_step


def test_no_identity_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(NotLoggedIn) as missing:
        StoredIdentity.load(tmp_path, hint="mosaic host join")
    assert missing.value.next_step == "mosaic host join"


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"format": 1}', '{"format": 2}', "\udcff"])
def test_a_damaged_identity_is_told_so(tmp_path: Path, content: str) -> None:
    IDENTITY.save(tmp_path)
    (tmp_path / FILE).write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(FleetError) as damaged:
        StoredIdentity.load(tmp_path)
    assert damaged.value.code == "identity-damaged"


def test_the_private_key_is_in_no_repr() -> None:
    assert "private" not in repr(IDENTITY)


def test_an_identity_knows_when_it_has_expired() -> None:
    assert not IDENTITY.expired(datetime(2029, 12, 31, tzinfo=UTC))
    assert IDENTITY.expired(datetime(2030, 1, 1, tzinfo=UTC))
