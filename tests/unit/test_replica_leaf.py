"""A replica shows a certificate that is valid by its clock, whatever was done to that."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta, tzinfo

import pytest
from cryptography import x509
from mosaic_controlplane.identity import replica_leaf
from mosaic_controlplane.identity.bootstrap import ClusterIdentity, KnownAuthority
from mosaic_controlplane.identity.replica_leaf import ReplicaLeaf
from mosaic_framework import pki
from mosaic_framework.ids import new_id

HOUR = timedelta(hours=1)


class Clock(datetime):
    """The wall clock, as far ahead as `ahead` says."""

    ahead = timedelta(0)

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]  # a plain datetime is what is wanted
        return datetime.now(tz) + cls.ahead


async def changed(leaf: ReplicaLeaf) -> x509.Certificate:
    """Return the certificate that takes the place of the one that is shown now."""
    before = leaf.current
    renewing = asyncio.create_task(leaf.run())
    try:
        async with asyncio.timeout(20):
            while leaf.current is before:
                await asyncio.sleep(0.01)
    finally:
        renewing.cancel()
        await asyncio.gather(renewing, return_exceptions=True)
    return x509.load_pem_x509_certificate(leaf.current.certificate_pem)


async def test_a_replica_whose_clock_is_put_back_shows_a_certificate_that_is_valid_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in (replica_leaf, pki):
        monkeypatch.setattr(module, "datetime", Clock)
    monkeypatch.setattr(replica_leaf, "_LOOK_SECONDS", 0.05)
    authority = KnownAuthority(new_id(), pki.Authority.create("test.mosaic"))
    cluster = ClusterIdentity("test.mosaic", "test", new_id(), (authority,))
    monkeypatch.setattr(Clock, "ahead", HOUR)
    leaf = ReplicaLeaf(cluster, new_id())
    made = x509.load_pem_x509_certificate(leaf.current.certificate_pem)
    assert made.not_valid_before_utc > datetime.now(UTC), "nobody else would take it now"
    monkeypatch.setattr(Clock, "ahead", timedelta(0))
    shown = await changed(leaf)
    assert shown.not_valid_before_utc <= datetime.now(UTC) < shown.not_valid_after_utc


async def test_a_replica_whose_clock_is_right_keeps_its_certificate_until_half_its_life(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(replica_leaf, "_LOOK_SECONDS", 0.01)
    authority = KnownAuthority(new_id(), pki.Authority.create("test.mosaic"))
    short = ClusterIdentity("test.mosaic", "test", new_id(), (authority,), leaf_lifetime=timedelta(seconds=4))
    leaf = ReplicaLeaf(short, new_id())
    began = datetime.now(UTC)
    await changed(leaf)
    assert datetime.now(UTC) - began >= timedelta(seconds=4 * 0.45)
