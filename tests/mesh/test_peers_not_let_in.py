"""Peers whose certificate TLS does not take: no call of theirs arrives; they are told why, and it is audited."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from mosaic_controlplane.federation.errors import PeerUnreachable
from mosaic_controlplane.identity.bootstrap import ClusterIdentity, ServerIdentity
from mosaic_framework import pki
from mosaic_framework.errors import FleetError, NotAuthenticated
from mosaic_framework.ids import new_id

from tests.support.mesh import Mesh
from tests.support.pairing import audited
from tests.support.peers import outgoing_of, pair, peer_row


def leaf_by(
    authority: Callable[[ClusterIdentity], pki.Authority], *, lifetime: timedelta = timedelta(hours=1)
) -> Callable[[ClusterIdentity], ServerIdentity]:
    """Return how to make a replica's leaf, of the cluster's own name, by an authority."""

    def make(cluster: ClusterIdentity) -> ServerIdentity:
        key, replica_id = pki.new_key(), str(new_id())
        spiffe_id = pki.SpiffeId(cluster.trust_domain, "replica", replica_id)
        certificate = authority(cluster).issue(
            key.public_key(), spiffe_id, identity_id=replica_id, identity_epoch=1, lifetime=lifetime
        )
        pem = pki.certificate_to_pem(certificate)
        return ServerIdentity(pki.key_to_pem(key), pem, cluster.bundle_pem, datetime.now(UTC) + lifetime)

    return make


def own(cluster: ClusterIdentity) -> pki.Authority:
    return cluster.authorities[0].authority


def forged(cluster: ClusterIdentity) -> pki.Authority:
    return pki.Authority.create(cluster.trust_domain)


async def test_who_is_not_let_in_is_told_why_and_is_in_the_audit_with_the_name_it_showed(
    mesh: Mesh, west: Mesh
) -> None:
    west.controlplane.kill()  # or it would call as well
    peer_id = (await pair(mesh, west)).peer_id
    peer = await peer_row(west, "east")
    domain = await west.register_value("select trust_domain from fleet.cluster")
    strange = replace(peer, peer_id=new_id())
    tries: list[tuple[object, ...]] = [
        (leaf_by(own, lifetime=timedelta(minutes=-1)), peer, PeerUnreachable, "it has expired", "not-authenticated"),
        (leaf_by(forged), peer, PeerUnreachable, "no authority of this cluster issued it", "not-authenticated"),
        (leaf_by(forged), strange, NotAuthenticated, "may have been restored", "unknown-peer"),
    ]
    for show, called, error, why, _code in tries:
        async with outgoing_of(west, show) as outgoing:  # type: ignore[arg-type]
            with pytest.raises(FleetError) as told:
                async with outgoing.to(called):  # type: ignore[arg-type]
                    pass
        assert type(told.value) is error
        assert str(why) in told.value.why
    rows = await audited(mesh, "PairingService/Standing")
    assert [row["outcome"] for row in rows] == [code for *_, code in tries]
    assert {row["caller_kind"] for row in rows} == {"unknown"}, "nothing proves whose certificate it is"
    assert [row["target"] for row in rows] == ["peer/west", "peer/west", ""]
    assert [row["detail"]["pairing"] for row in rows] == [peer_id, peer_id, str(strange.peer_id)]
    for row in rows:
        assert str(row["detail"]["claimed"]).startswith(f"spiffe://{domain}/replica/")
        assert str(row["peer_address"]).startswith("127.0.0.1:")

    # One whose leaf is good only asks, as after a cut: that is no refusal.
    async with outgoing_of(west) as outgoing:
        assert (await outgoing.standing(peer)).standing == "paired"
    assert len(await audited(mesh, "PairingService/Standing")) == len(tries)
