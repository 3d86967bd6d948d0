"""What of a renewal is decided without a call: whether a reply is one, when it is due, what is said when it is late."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from mosaic_cli import main
from mosaic_cli.context import Context, Contexts, save
from mosaic_framework import pki, renewal
from mosaic_framework.identity_files import StoredIdentity
from mosaic_framework.ids import new_id
from mosaic_framework.paths import Home
from mosaic_framework.renewal import FalseRenewal, Renewal
from mosaic_proto.v1 import identity_pb2 as pb

TRUST_DOMAIN = "abcdefgh23456777.mosaic"
ADA = pki.SpiffeId(TRUST_DOMAIN, "operator", "ada", tenant="default")
IDENTITY_ID = str(new_id())
AUTHORITY = pki.Authority.create(TRUST_DOMAIN)


def identity(*, lifetime: timedelta = timedelta(hours=24)) -> StoredIdentity:
    key = pki.new_key()
    leaf = AUTHORITY.issue(key.public_key(), ADA, identity_id=IDENTITY_ID, identity_epoch=1, lifetime=lifetime)
    return StoredIdentity(
        kind="operator",
        name="ada",
        tenant="default",
        identity_id=IDENTITY_ID,
        identity_epoch=1,
        spiffe_id=str(ADA),
        trust_domain=TRUST_DOMAIN,
        cluster="home",
        fleet_addresses=["127.0.0.1:1"],
        not_after=leaf.not_valid_after_utc.astimezone(UTC),
        key_pem=pki.key_to_pem(key),
        certificate_pem=pki.certificate_to_pem(leaf),
        bundle_pem=pki.certificate_to_pem(AUTHORITY.certificate),
        renew_at=renewal.renew_at(leaf),
    )


def reply(
    key: ec.EllipticCurvePublicKey,
    *,
    spiffe_id: pki.SpiffeId = ADA,
    identity_id: str = IDENTITY_ID,
    epoch: int = 1,
    by: pki.Authority = AUTHORITY,
) -> pb.RenewLeafReply:
    leaf = by.issue(key, spiffe_id, identity_id=identity_id, identity_epoch=epoch)
    roots = [pki.certificate_to_der(AUTHORITY.certificate)]
    return pb.RenewLeafReply(certificate_der=pki.certificate_to_der(leaf), authority_der=roots)


def test_a_reply_for_our_key_and_identity_is_taken() -> None:
    asked = Renewal.of(identity())
    fresh = asked.taken(reply(asked.key.public_key()))
    assert fresh.key_pem == pki.key_to_pem(asked.key)
    assert fresh.fleet_addresses == ["127.0.0.1:1"], "a reply that names no address takes none away"


def test_any_other_reply_is_refused_and_says_why() -> None:
    asked = Renewal.of(identity())
    mine = asked.key.public_key()
    other = pki.SpiffeId(TRUST_DOMAIN, "operator", "eve", tenant="default")
    for false, why in (
        (pb.RenewLeafReply(certificate_der=b"x"), "cannot be read"),
        (reply(pki.new_key().public_key()), "another key"),
        (reply(mine, spiffe_id=other), "not for spiffe"),
        (reply(mine, identity_id=str(new_id())), "not for spiffe"),
        (reply(mine, epoch=2), "not for spiffe"),
        (reply(mine, by=pki.Authority.create(TRUST_DOMAIN)), "no root"),
    ):
        with pytest.raises(FalseRenewal) as refused:
            asked.taken(false)
        assert why in refused.value.why


def test_it_is_due_at_about_half_its_life_by_this_machines_clock_however_wrong_that_is() -> None:
    leaf = AUTHORITY.issue(pki.new_key().public_key(), ADA, identity_id=IDENTITY_ID, identity_epoch=1)
    for clock in (datetime.now(UTC) - timedelta(days=30), datetime.now(UTC) + timedelta(hours=20)):
        wait = renewal.renew_at(leaf, now=clock) - clock
        assert timedelta(hours=10) < wait < timedelta(hours=14)
    moments = {renewal.renew_at(leaf, now=datetime(2026, 1, 1, tzinfo=UTC)) for _ in range(20)}
    assert len(moments) > 1, "not all of a fleet at one moment"


def test_an_identity_from_before_there_was_renewal_is_due_at_once(tmp_path: Path) -> None:
    replace(identity(), renew_at=None).save(tmp_path)
    found = StoredIdentity.load(tmp_path)
    assert found.due()
    assert not identity().due()


def test_roots_are_the_same_bundle_in_whichever_order_they_stand() -> None:
    one, two = (pki.certificate_to_pem(made.certificate) for made in (AUTHORITY, pki.Authority.create(TRUST_DOMAIN)))
    assert pki.bundle_digest(one + two) == pki.bundle_digest(two + one) != pki.bundle_digest(one)


@pytest.mark.parametrize(("context", "next_step"), [("local", "mosaic up"), ("work", "mosaic login")])
def test_a_login_that_has_run_out_is_told_with_what_to_do(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    context: str,
    next_step: str,
) -> None:
    monkeypatch.setenv("MOSAIC_HOME", str(tmp_path))
    identity(lifetime=timedelta(seconds=-1)).save(tmp_path / "pki/operators/me")
    item = Context(context, ("127.0.0.1:1",), "pki/operators/me")
    save(Home(tmp_path), Contexts().put(item, make_current=True))
    assert main.run(["host", "ls"]) == 4
    told = capsys.readouterr().err
    assert "the login of ada has expired (login-expired)" in told
    assert f"next:  {next_step}" in told
