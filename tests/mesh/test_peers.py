"""Two clusters that are paired, with real control planes."""

from __future__ import annotations

from mosaic_proto.v1 import federation_pb2 as pb
from mosaic_proto.v1.federation_pb2_grpc import FederationServiceStub

from tests.support.mesh import Mesh
from tests.support.peers import outgoing_of, pair, peer_row


async def test_a_peer_that_parts_leaves_a_tombstone_and_is_not_let_in_again(mesh: Mesh, west: Mesh) -> None:
    await pair(mesh, west)
    peer = await peer_row(mesh, "west")
    async with outgoing_of(mesh) as outgoing:
        async with outgoing.to(peer) as onward:
            stub = FederationServiceStub(onward.channel)
            await stub.Part(pb.PartRequest(reason="enough"), metadata=onward.metadata, timeout=onward.timeout)
        assert not (await peer_row(west, "east")).stands
