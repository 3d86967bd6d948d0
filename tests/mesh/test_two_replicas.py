"""Two replicas of the control plane over one register, and a host that knows both."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from mosaic_controlplane.mesh.wakes import RESCAN_SECONDS
from mosaic_framework.identity_files import StoredIdentity
from mosaic_framework.ids import new_id
from mosaic_framework.paths import Home
from mosaic_proto.v1 import fleet_pb2, messages_pb2, messages_pb2_grpc

from tests.support.mesh import Mesh
from tests.support.program import eventually
from tests.support.replicas import Replica


@pytest.fixture
async def second(mesh: Mesh) -> AsyncIterator[Replica]:
    replica = Replica(mesh)
    await replica.start()
    try:
        yield replica
    finally:
        await replica.close()


async def follow(
    messages: messages_pb2_grpc.MessageServiceAsyncStub, body: str
) -> list[messages_pb2.MessageStep.ValueType]:
    """Send to `worker` and follow until it is submitted; the steps that were seen."""
    request = messages_pb2.SendRequest(request_id=str(new_id()), to="worker", body=body)
    until = messages_pb2.MESSAGE_STEP_SUBMITTED
    async with asyncio.timeout(30):
        await messages.Send(request, wait_for_ready=True)
        wanted = messages_pb2.FollowRequest(message_id=request.request_id, until=until)
        return [receipt.step async for receipt in messages.Follow(wanted)]


async def test_a_host_that_knows_two_replicas_moves_to_the_other_when_its_own_dies(
    mesh: Mesh, second: Replica, tmp_path: Path
) -> None:
    host = await mesh.join("alpha", dials=[mesh.address, second.address])
    await mesh.apply({"worker": "alpha"})
    await mesh.until_available("worker")
    before = (await mesh.agents())["worker"]
    epoch = (await mesh.host_row("alpha")).link_epoch
    mesh.controlplane.kill()
    seen = await follow(second.messages, f"echo x >> {tmp_path}/ran")
    assert seen[-1] == messages_pb2.MESSAGE_STEP_SUBMITTED, host.program.log.read_text()
    await mesh.settled(host, "worker", tmp_path / "ran")
    reply = await second.fleet.ListAgents(fleet_pb2.ListAgentsRequest())
    assert [(agent.run_id, agent.pid) for agent in reply.agents] == [(before.run_id, before.pid)]
    assert reply.hosts[0].state == fleet_pb2.HOST_STATE_LIVE
    assert reply.hosts[0].link_epoch > epoch


async def test_through_either_replica_a_send_reaches_the_host_at_once_and_each_step_is_told(
    mesh: Mesh, second: Replica
) -> None:
    await mesh.join("alpha")
    await mesh.apply({"worker": "alpha"})
    await mesh.until_available("worker")
    for messages in (mesh.messages, second.messages):
        quickest = RESCAN_SECONDS
        for _ in range(3):
            began = time.monotonic()
            assert (await follow(messages, "true"))[-1] == messages_pb2.MESSAGE_STEP_SUBMITTED
            quickest = min(quickest, time.monotonic() - began)
        assert quickest < RESCAN_SECONDS / 2, "NOTIFY brings it, not the rescan"


async def test_a_terminal_is_shown_by_either_replica_whichever_holds_the_link(mesh: Mesh, second: Replica) -> None:
    await mesh.join("alpha")
    await mesh.apply({"worker": "alpha"})
    await mesh.until_available("worker")
    await mesh.until_step(await mesh.send("worker", "echo seen-by-both"))
    request = fleet_pb2.TailRequest(address="worker", lines=5)
    for fleet in (mesh.fleet, second.fleet):
        assert "seen-by-both" in (await fleet.Tail(request)).text


async def test_each_replica_tells_who_joins_of_both(mesh: Mesh, second: Replica) -> None:
    host = await mesh.join("alpha", started=False)
    known = StoredIdentity.load(host.pki).fleet_addresses
    assert sorted(known) == sorted([mesh.address, second.address])


async def test_a_host_learns_of_a_replica_that_came_after_it_joined_and_moves_there_when_its_own_dies(
    mesh: Mesh,
) -> None:
    host = await mesh.join("alpha")
    assert StoredIdentity.load(host.pki).fleet_addresses == [mesh.address]
    second = Replica(mesh)
    await second.start()
    try:
        host.program.stop()
        host.program.start()
        await mesh.until_host("alpha", fleet_pb2.HOST_STATE_LIVE)
        known = Home(host.program.home).state / "addresses.json"
        await eventually(lambda: known.exists() and second.address in known.read_text(), "it is told", host.program)
        await mesh.apply({"worker": "alpha"})
        await mesh.until_available("worker")
        mesh.controlplane.kill()
        assert (await follow(second.messages, "true"))[-1] == messages_pb2.MESSAGE_STEP_SUBMITTED
    finally:
        await second.close()
