"""What an agent boots with, over the whole mesh: asked for by address, and told to every host."""

from __future__ import annotations

import grpc.aio
import pytest
from mosaic_framework import wire
from mosaic_proto.v1.seeding_pb2 import GetSeedRequest

from tests.support.mesh import Mesh
from tests.support.program import eventually


async def test_a_seed_is_composed_of_what_was_applied_and_a_host_learns_of_a_peer_without_a_restart(mesh: Mesh) -> None:
    await mesh.join("alpha")
    await mesh.join("beta")
    await mesh.apply({"here": "alpha"})
    await mesh.until_available("here")
    before = (await mesh.agents())["here"]

    await mesh.apply({"here": "alpha", "there": "beta"})
    seed = await mesh.seeding.GetSeed(GetSeedRequest(address="here"))
    assert (seed.host, seed.name, seed.delivery, seed.text) == ("alpha", "here", "none", "")
    assert "You are the agent `alpha/here`" in seed.comms_block
    assert "`mosaic agent send beta/there -m 'TEXT'`" in seed.comms_block

    desired = mesh.hosts["alpha"].program.home / "state" / "desired.binpb"
    await eventually(lambda: b"there" in desired.read_bytes(), "alpha is told of its new peer")
    await mesh.until_available("there")

    row = (await mesh.agents())["here"]
    assert (row.pid, row.generation, row.problem) == (before.pid, before.generation, "")

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await mesh.seeding.GetSeed(GetSeedRequest(address="hear"))
    assert "the nearest names are" in wire.error_from_rpc(caught.value).why


async def test_a_seed_of_a_program_that_takes_one_carries_contract_and_peers(mesh: Mesh) -> None:
    await mesh.join("alpha", started=False)
    await mesh.apply({"coder0": "alpha", "coder1": "alpha"}, runtime="claude")
    seed = await mesh.seeding.GetSeed(GetSeedRequest(address="alpha/coder0"))
    assert seed.delivery == "argument"
    assert [part.name for part in seed.parts] == ["role", "contract", "runtime", "comms"]
    assert seed.text == "\n".join(part.text for part in seed.parts)
    assert "mosaic agent send alpha/coder1" in seed.text
