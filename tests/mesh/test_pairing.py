"""Pairing of two clusters with real control planes: how it begins, and who does not get in."""

from __future__ import annotations

from cryptography import x509
from mosaic_framework import pki
from mosaic_framework.enrolment import JoinToken
from mosaic_proto.v1 import peers_pb2

from tests.support.mesh import Mesh
from tests.support.pairing import ask, audited, code_of, join, listed, peers, request_of, token
from tests.support.peers import peer_row

PAIR = "PairingService/Pair"


def _certificate(der: object) -> x509.Certificate:
    assert isinstance(der, bytes)
    return x509.load_der_x509_certificate(der)


async def test_a_token_pairs_two_clusters_which_then_hold_each_others_roots_and_no_secret(
    mesh: Mesh, west: Mesh
) -> None:
    text = await token(mesh, "west", role="operator")
    made = await join(west, text, name="hq")
    theirs, ours = await peer_row(mesh, "west"), await peer_row(west, "hq")
    assert (str(theirs.peer_id), str(ours.peer_id)) == (made.id, made.id)
    assert (theirs.role, ours.role) == ("operator", "viewer")
    assert (theirs.cluster, ours.cluster) == ("west", "local")
    roots = "select certificate from fleet.authority"
    for peer, other in ((theirs, west), (ours, mesh)):
        assert peer.bundle == pki.certificate_to_pem(_certificate(await other.register_value(roots)))
        assert peer.trust_domain == await other.register_value("select trust_domain from fleet.cluster")
        assert list(peer.addresses) == [f"127.0.0.1:{other.peer_port}"]
        assert list(peer.enrol_addresses) == [f"127.0.0.1:{other.enrol_port}"]
    for cluster in (mesh, west):
        everything = "select string_agg(p::text, '') from fleet.%s p"
        for table in ("peer", "peer_feed", "audit", "join_token"):
            assert JoinToken.parse(text).secret not in str(await cluster.register_value(everything % table))
    assert [row["outcome"] for row in await audited(mesh, PAIR)] == ["done"]
    assert [(row["target"], row["outcome"]) for row in await audited(west, "PeerService/Join")] == [("peer/hq", "done")]


async def test_a_token_is_of_use_once_for_one_cluster_under_one_name_and_in_time(mesh: Mesh, west: Mesh) -> None:
    text = await token(mesh, "west")
    assert await code_of(join(west, text, called="east")) == "token-wrong-name"
    assert await code_of(join(mesh, text)) == "own-cluster"
    made = await join(west, text, name="hq")
    assert await code_of(join(west, text, name="other")) == "already-paired"
    thief = pki.Authority.create("thief.mosaic")
    assert await code_of(ask(text, request_of(thief, text, trust_domain="thief.mosaic"))) == "token-spent"

    # West loses all it knows of it: its reply was lost. The same cluster gets the same pairing, and no other.
    await west.register_value("delete from fleet.peer returning 1")
    assert (await join(west, text, name="hq")).id == made.id

    late = await token(mesh, "late")
    await mesh.register_value("update fleet.join_token set expires_at = now() where name = 'late' returning 1")
    assert await code_of(ask(late, request_of(thief, late, trust_domain="thief.mosaic"))) == "token-expired"
    again = await token(mesh, "again")
    assert await code_of(join(west, again, name="again")) == "already-paired"
    await west.register_value("delete from fleet.peer returning 1")
    assert await code_of(join(west, again, name="again")) == "already-paired"

    host = await mesh.token("machine")
    assert await code_of(ask(host, request_of(thief, host, trust_domain="thief.mosaic"))) == "token-wrong-name"
    never = await token(mesh, "never")
    asked = request_of(thief, never, trust_domain="thief.mosaic")
    asked.secret = "made up"
    assert await code_of(ask(never, asked)) == "token-invalid"
    assert [(row["target"], row["outcome"]) for row in await audited(mesh, PAIR)] == [
        ("peer/west", "token-wrong-name"),
        ("peer/west", "done"),
        ("peer/west", "token-spent"),
        ("peer/west", "done"),
        ("peer/late", "token-expired"),
        ("peer/again", "already-paired"),
        ("host/machine", "token-wrong-name"),
        ("", "token-invalid"),
    ]


async def test_whoever_finds_a_token_cannot_pair_as_somebody_else(mesh: Mesh) -> None:
    ours = str(await mesh.register_value("select trust_domain from fleet.cluster"))
    our_root = _certificate(await mesh.register_value("select certificate from fleet.authority"))
    thief, other = pki.Authority.create("thief.mosaic"), pki.Authority.create("other.mosaic")
    posing = pki.Authority.create("other.mosaic")
    text = await token(mesh, "west")
    tampered = request_of(thief, text, trust_domain="thief.mosaic")
    tampered.addresses[0] = "127.0.0.1:10"
    unsigned = request_of(thief, text, trust_domain="thief.mosaic")
    unsigned.signature = b""
    tries = {
        "as this cluster": (request_of(thief, text, trust_domain=ours), "own-cluster"),
        "as another, with its own root": (request_of(thief, text, trust_domain="other.mosaic"), "bad-pairing"),
        "as another, with that one's root": (
            request_of(posing, text, trust_domain="other.mosaic", shown=other.certificate),
            "bad-pairing",
        ),
        "with a root of this cluster": (
            request_of(thief, text, trust_domain="thief.mosaic", shown=our_root),
            "bad-pairing",
        ),
        "by the leaf of a person": (
            request_of(
                thief, text, trust_domain="thief.mosaic", spiffe_id="spiffe://thief.mosaic/tenant/default/operator/ada"
            ),
            "bad-pairing",
        ),
        "what was meant for another cluster": (
            request_of(thief, text, trust_domain="thief.mosaic", audience="other.mosaic"),
            "wrong-audience",
        ),
        "changed on the way": (tampered, "bad-pairing"),
        "unsigned": (unsigned, "bad-pairing"),
    }
    for what, (request, code) in tries.items():
        assert await code_of(ask(text, request)) == code, what
    assert [row["outcome"] for row in await audited(mesh, PAIR)] == [code for _, code in tries.values()]
    assert await listed(mesh) == {}
    # None of that used it up.
    assert await code_of(ask(text, request_of(thief, text, trust_domain="thief.mosaic"))) == "done"


async def test_a_server_that_is_not_whom_the_token_names_is_not_paired_with(mesh: Mesh, west: Mesh) -> None:
    real = JoinToken.parse(await token(mesh, "west"))
    elsewhere = JoinToken(
        real.kind,
        real.tenant,
        real.name,
        "other.mosaic",
        real.addresses,
        pki.certificate_to_der(pki.Authority.create("other.mosaic").certificate),
        real.secret,
        cluster="other",
    )
    assert await code_of(join(west, elsewhere.format())) == "bad-pairing"
    renamed = JoinToken(
        real.kind,
        real.tenant,
        real.name,
        "other.mosaic",
        real.addresses,
        real.authority_der,
        real.secret,
        cluster="other",
    )
    assert await code_of(join(west, renamed.format())) == "wrong-audience"
    assert await listed(west) == {}


async def test_bad_names_roles_and_times_are_refused_before_a_token_is_made(mesh: Mesh) -> None:
    for request, code in (
        (peers_pb2.CreatePeerTokenRequest(name="a/b"), "invalid-input"),
        (peers_pb2.CreatePeerTokenRequest(name="local"), "invalid-input"),  # what this cluster itself is called
        (peers_pb2.CreatePeerTokenRequest(name="west", role="admin"), "invalid-input"),
        (peers_pb2.CreatePeerTokenRequest(name="west", ttl_seconds=10**6), "invalid-input"),
        (peers_pb2.CreatePeerTokenRequest(name="west", tenant="acme"), "denied"),
    ):
        assert await code_of(peers(mesh).CreateToken(request, wait_for_ready=True)) == code, request
    assert await mesh.register_value("select count(*) from fleet.join_token where kind = 'peer'") == 0
