"""Two clusters that are paired, with real control planes: what each may do, and the end of it."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import grpc
import pytest
from mosaic_cli.client import ANSWER_WITHIN
from mosaic_controlplane.federation import bundles
from mosaic_controlplane.federation.errors import PeerRevoked, PeerUnreachable
from mosaic_controlplane.identity.bootstrap import open_cluster
from mosaic_controlplane.register.database import Database
from mosaic_framework import pki, wire
from mosaic_framework.ids import new_id
from mosaic_framework.paths import Home
from mosaic_proto.v1 import federation_pb2, peers_pb2
from mosaic_proto.v1.federation_pb2_grpc import FederationServiceStub

from tests.support.controlplane import beside
from tests.support.mesh import Mesh
from tests.support.pairing import audited, code_of, join, listed, peers, token
from tests.support.peers import outgoing_of, pair, peer_row, write_peer
from tests.support.program import WAIT_SECONDS

T = TypeVar("T")


async def until(look: Callable[[], Awaitable[T]], holds: Callable[[T], bool]) -> T:
    """Look until it holds, and return what was seen."""
    found = await look()
    async with asyncio.timeout(WAIT_SECONDS):
        while not holds(found):
            await asyncio.sleep(0.05)
            found = await look()
    return found


def granting(peer: str, kind: str, selector: str = "*", **more: object) -> peers_pb2.GrantRequest:
    return peers_pb2.GrantRequest(request_id=str(new_id()), peer=peer, kind=kind, selector=selector, **more)  # type: ignore[arg-type]


def revoking(peer: str, reason: str = "") -> peers_pb2.RevokePeerRequest:
    return peers_pb2.RevokePeerRequest(request_id=str(new_id()), peer=peer, reason=reason)


def removing(peer: str) -> peers_pb2.RemovePeerRequest:
    return peers_pb2.RemovePeerRequest(request_id=str(new_id()), peer=peer)


async def partings(mesh: Mesh) -> list[dict[str, Any]]:
    """The ends of pairings that a mesh wrote down. One that it found out by itself first is told to it in vain."""
    return [row for row in await audited(mesh, "FederationService/Part") if row["outcome"] == "done"]


async def test_nothing_is_granted_by_pairing_and_a_grant_counts_until_its_end(mesh: Mesh) -> None:
    await write_peer(mesh, "west")
    west = peers(mesh)
    assert list((await listed(mesh))["west"].grants) == []
    asked = granting("west", "see", "host=web-*,class=builder", fields=["work"], ttl_seconds=3600)
    await west.Grant(asked)
    await west.Grant(asked)  # the same again is the same grant
    asked.selector = "*"
    assert await code_of(west.Grant(asked)) == "request-reused"
    shown = (await west.Grant(granting("west", "claim", max=3))).peer
    assert [(one.kind, one.selector, list(one.fields), one.max) for one in shown.grants] == [
        ("claim", "*", [], 3),
        ("see", "class=builder,host=web-*", ["work"], 0),
    ]
    left = shown.grants[1].expires_at.ToDatetime(tzinfo=UTC) - datetime.now(UTC)
    assert timedelta(minutes=55) < left <= timedelta(hours=1)
    bad = [
        (granting("west", "look"), "invalid-input"),
        (granting("west", "see", ""), "selector-invalid"),
        (granting("west", "see", "mission=x"), "selector-invalid"),
        (granting("west", "see", fields=["spec"]), "invalid-input"),
        (granting("west", "send", fields=["work"]), "invalid-input"),
        (granting("west", "send", max=1), "invalid-input"),
        (granting("west", "claim", max=-1), "invalid-input"),
        (granting("west", "see", ttl_seconds=-5), "invalid-input"),
        (granting("west", "see", ttl_seconds=366 * 86_400), "invalid-input"),
        (granting("wst", "see"), "no-such-peer"),
        (peers_pb2.GrantRequest(peer="west", kind="see", selector="*"), "invalid-input"),
    ]
    for request, code in bad:
        assert await code_of(west.Grant(request)) == code, request
    await mesh.register_value("update fleet.peer_grant set expires_at = now() where kind = 'claim' returning 1")
    assert [one.kind for one in (await listed(mesh))["west"].grants] == ["see"]
    ended = peers_pb2.UngrantRequest(request_id=str(new_id()), peer="west", grants=[shown.grants[1].id[-12:]])
    assert list((await west.Ungrant(ended)).peer.grants) == []
    assert await code_of(west.Ungrant(ended)) == "not-found"
    assert await code_of(west.Ungrant(peers_pb2.UngrantRequest(peer="west"))) == "invalid-input"
    assert await code_of(west.Ungrant(peers_pb2.UngrantRequest(peer="west", kind="look"))) == "invalid-input"
    done = [
        json.loads(str(row["detail"])) if isinstance(row["detail"], str) else row["detail"]
        for row in await audited(mesh, "PeerService/Grant")
        if row["outcome"] == "done"
    ]
    assert [(row["kind"], row["selector"]) for row in done] == [("see", "class=builder,host=web-*"), ("claim", "*")]


async def test_the_people_of_a_peer_count_as_what_the_owner_says_and_never_as_its_admins(mesh: Mesh) -> None:
    await write_peer(mesh, "west")
    for role, code in (("operator", "done"), ("viewer", "done"), ("admin", "invalid-input"), ("", "invalid-input")):
        request = peers_pb2.ChangePeerRoleRequest(request_id=str(new_id()), peer="west", role=role)
        assert await code_of(peers(mesh).ChangeRole(request)) == code, role
    assert (await listed(mesh))["west"].role == "viewer"


async def test_a_pairing_that_one_side_ends_is_a_tombstone_on_both_until_it_is_removed_or_begun_again(
    mesh: Mesh, west: Mesh
) -> None:
    used, spare = await token(mesh, "west"), await token(mesh, "west")
    first = await join(west, used, name="hq")
    await peers(mesh).Grant(granting("west", "see"))
    ended = (await peers(mesh).Revoke(revoking("west", "enough"))).peer
    assert (ended.health, ended.revoked_by, ended.problem) == (peers_pb2.PEER_HEALTH_REVOKED, "us", "")
    there = (await listed(west))["hq"]
    assert (there.health, there.revoked_by, there.revoked_reason) == (peers_pb2.PEER_HEALTH_REVOKED, "peer", "enough")
    for cluster in (mesh, west):
        assert await cluster.register_value("select octet_length(bundle) from fleet.peer") == 0
        assert await cluster.register_value("select count(*) from fleet.peer_grant where ended_at is null") == 0
        assert await cluster.register_value("select count(*) from fleet.peer_feed") == 0
    (row,) = await partings(west)
    assert (row["caller_kind"], row["caller_name"]) == ("peer", "hq")
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await peers(mesh).Grant(granting("west", "see"))
    told = wire.error_from_rpc(refused.value)
    assert (told.code, told.why, told.details["peer"]) == ("peer-revoked", "enough", "west"), "no new login would help"
    await peers(mesh).Revoke(revoking("west"))  # again: nothing more happens
    assert len(await partings(west)) == 1

    assert await code_of(join(west, used, name="hq")) == "token-spent", "what it began is over"
    assert await code_of(join(west, spare, name="hq")) == "token-expired", "it was made for what was before"

    second = await join(west, await token(mesh, "west"), name="hq")
    assert second.id != first.id
    for cluster, name in ((mesh, "west"), (west, "hq")):
        (found,) = (await listed(cluster)).values()
        assert (found.name, found.id) == (name, second.id)
        assert found.health in (peers_pb2.PEER_HEALTH_PAIRED, peers_pb2.PEER_HEALTH_LIVE)  # it may have been heard of
        assert list(found.grants) == []  # what the one before might do, this one may not
    assert await code_of(peers(west).Remove(removing("hq"))) == "conflict"
    await peers(west).Revoke(revoking("hq"))
    # It may not be let in to tell the other side, which may not have read the roots of a pairing so young.
    await until(lambda: listed(mesh), lambda found: found["west"].health == peers_pb2.PEER_HEALTH_REVOKED)
    for cluster, name in ((mesh, "west"), (west, "hq")):
        await peers(cluster).Remove(removing(name))
        assert await listed(cluster) == {}
        assert await code_of(peers(cluster).Remove(removing(name))) == "no-such-peer"


async def test_a_side_that_was_away_when_the_pairing_ended_finds_out_when_it_calls(mesh: Mesh, west: Mesh) -> None:
    await join(west, await token(mesh, "west"), name="hq")
    before = await peer_row(west, "hq")
    west.controlplane.signal(signal.SIGSTOP)  # its listener takes connections still, and says nothing
    ended = (await peers(mesh).Revoke(revoking("west", "gone for good"), timeout=ANSWER_WITHIN)).peer
    assert "could not be told" in ended.problem
    west.controlplane.kill()
    async with outgoing_of(west) as outgoing:
        with pytest.raises(PeerRevoked) as told:
            async with outgoing.to(before) as onward:
                await FederationServiceStub(onward.channel).Part(
                    federation_pb2.PartRequest(), metadata=onward.metadata, timeout=onward.timeout
                )
    assert told.value.why == "gone for good"
    there = await peer_row(west, "hq")
    assert (there.revoked_by, there.revoked_reason) == ("peer", "gone for good")
    asked = await audited(mesh, "PairingService/Standing")
    assert {(row["caller_name"], row["outcome"]) for row in asked} == {("west", "peer-revoked")}


async def test_a_peer_that_is_away_is_named_with_when_it_was_last_heard_of(mesh: Mesh, west: Mesh) -> None:
    await pair(mesh, west)
    await mesh.register_value("update fleet.peer_feed set bookmark_at = now() - interval '3 minutes' returning 1")
    west.controlplane.kill()
    async with outgoing_of(mesh) as outgoing:
        with pytest.raises(PeerUnreachable, match=r"cluster west cannot be reached; it was last heard of 3 m ago"):
            async with outgoing.to(await peer_row(mesh, "west")):
                pass


async def test_a_changed_bundle_counts_at_once_without_a_restart_and_only_for_its_own_pairing(
    mesh: Mesh, west: Mesh
) -> None:
    west.controlplane.kill()  # or it would tell of its next root by itself
    await pair(mesh, west)
    assert beside(west, "authority", "add").returncode == 0
    database = await Database.connect(str(mesh.controlplane.environment["MOSAIC_DATABASE_URL"]), pool_size=2)
    theirs = await Database.connect(str(west.controlplane.environment["MOSAIC_DATABASE_URL"]), pool_size=2)
    try:
        ours = await open_cluster(database, Home(mesh.controlplane.home), alias="test")
        cluster = await open_cluster(theirs, Home(west.controlplane.home), alias="test")
        newer = cluster.authorities[1].authority
        leaf = _replica_leaf(newer, cluster.trust_domain)
        peer = await peer_row(mesh, "west")
        assert await _part(mesh, peer.peer_id, ours.trust_domain, leaf, ours.bundle_pem) == "unreachable"
        told = federation_pb2.TrustBundle(
            authority_der=[pki.certificate_to_der(root) for root in cluster.roots],
            addresses=[f"127.0.0.1:{west.peer_port}"],
            enrol_addresses=[f"127.0.0.1:{west.enrol_port}"],
        )
        foreign = federation_pb2.TrustBundle(
            authority_der=[*told.authority_der, pki.certificate_to_der(pki.Authority.create("a.mosaic").certificate)]
        )
        async with database.transaction() as connection:
            with pytest.raises(bundles.BadPairing, match="not usable"):
                await bundles.take(connection, peer, foreign, ours=ours)
            assert await bundles.take(connection, peer, told, ours=ours)
            assert not await bundles.take(connection, peer, told, ours=ours)  # no news

        async def parted() -> str:
            return await _part(mesh, peer.peer_id, ours.trust_domain, leaf, ours.bundle_pem)

        await until(parted, lambda code: code == "done")
        assert not (await peer_row(mesh, "west")).stands
    finally:
        await database.close()
        await theirs.close()


async def test_the_next_root_does_not_sign_while_a_peer_may_not_know_it(mesh: Mesh) -> None:
    await write_peer(mesh, "west")
    assert beside(mesh, "authority", "add").returncode == 0
    # Everybody else knows it.
    await mesh.register_value("with gone as (delete from fleet.leaf) delete from fleet.join_token returning 1")
    refused = beside(mesh, "authority", "use")
    assert "cluster west may not know the next root yet (rollover-too-early)" in refused.stderr
    await mesh.register_value("update fleet.peer_feed set bookmark_at = now() + interval '30 seconds' returning 1")
    done = beside(mesh, "authority", "use")
    assert done.returncode == 0, done.stderr


def _replica_leaf(authority: pki.Authority, trust_domain: str) -> tuple[bytes, bytes]:
    key, replica_id = pki.new_key(), str(new_id())
    spiffe_id = pki.SpiffeId(trust_domain, "replica", replica_id)
    certificate = authority.issue(key.public_key(), spiffe_id, identity_id=replica_id, identity_epoch=1)
    return pki.key_to_pem(key), pki.certificate_to_pem(certificate)


async def _part(mesh: Mesh, peer_id: object, audience: str, leaf: tuple[bytes, bytes], bundle: bytes) -> str:
    """End the pairing as whoever holds this leaf; returns what came of it."""
    metadata = (("mosaic-pairing", str(peer_id)), ("mosaic-audience", audience))
    async with wire.replica_channel(*leaf, bundle, f"127.0.0.1:{mesh.peer_port}") as channel:
        try:
            await FederationServiceStub(channel).Part(federation_pb2.PartRequest(), metadata=metadata, timeout=10)
        except grpc.RpcError as error:
            return str(wire.error_from_rpc(error).code)
    return "done"
