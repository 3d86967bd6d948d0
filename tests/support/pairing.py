"""Pairing two meshes as their admins do, and as others try to."""

from __future__ import annotations

import json
from typing import Any

import grpc
import grpc.aio
from cryptography import x509
from mosaic_controlplane.federation import proof
from mosaic_framework import pki, wire
from mosaic_framework.enrolment import JoinToken
from mosaic_framework.ids import new_id
from mosaic_proto.v1 import federation_pb2, peers_pb2, peers_pb2_grpc
from mosaic_proto.v1.federation_pb2_grpc import PairingServiceStub

from tests.support.mesh import Mesh


def peers(mesh: Mesh) -> peers_pb2_grpc.PeerServiceAsyncStub:
    return peers_pb2_grpc.PeerServiceStub(mesh.channel)


async def token(mesh: Mesh, name: str, *, role: str = "", ttl_seconds: int = 0) -> str:
    """Make a token with which another cluster becomes `name` at `mesh`."""
    request = peers_pb2.CreatePeerTokenRequest(request_id=str(new_id()), name=name, role=role, ttl_seconds=ttl_seconds)
    return (await peers(mesh).CreateToken(request, wait_for_ready=True)).token


async def join(mesh: Mesh, text: str, *, name: str = "", called: str = "", role: str = "") -> peers_pb2.PeerCluster:
    """Pair `mesh` with the cluster that made the token."""
    request = peers_pb2.JoinPeerRequest(request_id=str(new_id()), token=text, name=name, role=role, **{"as": called})
    return (await peers(mesh).Join(request, wait_for_ready=True)).peer


async def listed(mesh: Mesh) -> dict[str, peers_pb2.PeerCluster]:
    """Return the peers of a mesh by name."""
    reply = await peers(mesh).List(peers_pb2.ListPeersRequest(), wait_for_ready=True)
    return {peer.name: peer for peer in reply.peers}


async def code_of(call: Any) -> str:
    """Return the code with which a call is refused, or 'done'."""
    try:
        await call
    except grpc.RpcError as error:
        return str(wire.error_from_rpc(error).code)
    return "done"


def request_of(
    authority: pki.Authority,
    text: str,
    *,
    trust_domain: str,
    shown: x509.Certificate | None = None,
    audience: str = "",
    name: str = "",
    spiffe_id: str = "",
) -> federation_pb2.PairRequest:
    """Return what the holder of `authority` would say to pair as `trust_domain`; shows its root, or `shown`."""
    parsed, key, replica_id = JoinToken.parse(text), pki.new_key(), str(new_id())
    leaf = authority.issue(
        key.public_key(),
        pki.SpiffeId.parse(spiffe_id or f"spiffe://{trust_domain}/replica/{replica_id}"),
        identity_id=replica_id,
        identity_epoch=1,
    )
    request = federation_pb2.PairRequest(
        secret=parsed.secret,
        name=name or parsed.name,
        trust_domain=trust_domain,
        cluster="theirs",
        tenant="default",
        authority_der=[pki.certificate_to_der(shown or authority.certificate)],
        addresses=["127.0.0.1:9"],
        enrol_addresses=["127.0.0.1:9"],
        certificate_der=pki.certificate_to_der(leaf),
        audience=audience or parsed.trust_domain,
    )
    proof.sign(request, key_pem=pki.key_to_pem(key))
    return request


async def ask(text: str, request: federation_pb2.PairRequest) -> federation_pb2.PairReply:
    """Ask the cluster that made the token, as another cluster's control plane does."""
    parsed = JoinToken.parse(text)
    roots = b"".join(pki.certificate_to_pem(x509.load_der_x509_certificate(der)) for der in parsed.roots_der)
    credentials = grpc.ssl_channel_credentials(roots)
    async with grpc.aio.secure_channel(parsed.addresses[0], credentials, options=wire.client_options()) as channel:
        return await PairingServiceStub(channel).Pair(request, timeout=10)


async def audited(mesh: Mesh, method: str) -> list[dict[str, Any]]:
    """Return the audit rows of a method, oldest first."""
    text = await mesh.register_value(
        "select coalesce(json_agg(a order by at, audit_id), '[]')::text from fleet.audit a where method = $1", method
    )
    rows: list[dict[str, Any]] = json.loads(str(text))
    return rows
