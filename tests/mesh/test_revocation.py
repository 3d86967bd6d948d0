"""Whoever is revoked is out at once: on each replica, for calls and for what is open."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from uuid import UUID

import grpc
import grpc.aio
import pytest
from mosaic_controlplane.identity.standings import RESCAN_SECONDS
from mosaic_framework import enrolment, wire
from mosaic_framework.enrolment import JoinToken
from mosaic_framework.errors import FleetError
from mosaic_framework.identity_files import StoredIdentity
from mosaic_framework.ids import new_id
from mosaic_framework.renewal import Renewal
from mosaic_proto.v1 import common_pb2, fleet_pb2, fleet_pb2_grpc, identity_pb2, identity_pb2_grpc, messages_pb2

from tests.mesh.test_two_replicas import Replica
from tests.support.mesh import Mesh
from tests.support.program import eventually

HOST, OPERATOR = common_pb2.PRINCIPAL_KIND_HOST, common_pb2.PRINCIPAL_KIND_OPERATOR


@pytest.fixture
async def second(mesh: Mesh) -> AsyncIterator[Replica]:
    replica = Replica(mesh)
    await replica.start()
    try:
        yield replica
    finally:
        await replica.close()


async def login(mesh: Mesh, name: str, folder: Path, *, role: str = "viewer") -> StoredIdentity:
    return await mesh.another_operator(name, role=role, folder=str(folder))


async def revoke(mesh: Mesh, kind: common_pb2.PrincipalKind.ValueType, name: str) -> identity_pb2.RevokeReply:
    stub = identity_pb2_grpc.IdentityServiceStub(mesh.channel)
    request = identity_pb2.RevokeRequest(request_id=str(new_id()), kind=kind, name=name, reason="its key was stolen")
    return await stub.Revoke(request)


async def refused(call: Callable[[], Awaitable[object]]) -> FleetError:
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await call()
    return wire.error_from_rpc(failed.value)


async def test_a_revoked_operators_streams_end_at_once_on_each_replica_and_every_call_is_refused(
    mesh: Mesh, second: Replica, tmp_path: Path
) -> None:
    eve = await login(mesh, "eve", tmp_path / "eve")
    addresses = (f"{mesh.listen}:{mesh.fleet_port}", second.address)
    channels = [wire.aio_channel(eve, address) for address in addresses]
    try:
        streams = [fleet_pb2_grpc.FleetServiceStub(channel).Watch(fleet_pb2.WatchRequest()) for channel in channels]
        for stream in streams:
            await stream.read()
        ends = [asyncio.create_task(refused(lambda stream=stream: _drained(stream))) for stream in streams]
        began = time.monotonic()
        await revoke(mesh, OPERATOR, "eve")
        ended = await asyncio.wait_for(asyncio.gather(*ends), 30)
        assert time.monotonic() - began < RESCAN_SECONDS / 2, "NOTIFY brings it, not the rescan"
        assert [one.code for one in ended] == ["identity-revoked"] * 2
        for channel in channels:
            fleet = fleet_pb2_grpc.FleetServiceStub(channel)
            assert (await refused(lambda fleet=fleet: fleet.ListAgents(fleet_pb2.ListAgentsRequest()))).code == (
                "identity-revoked"
            )
            renew = identity_pb2_grpc.IdentityServiceStub(channel).Renew
            asked = Renewal.of(eve).request()
            assert (await refused(lambda renew=renew, asked=asked: renew(asked))).code == "identity-revoked"
    finally:
        for channel in channels:
            await channel.close()


async def _drained(stream: grpc.aio.UnaryStreamCall[fleet_pb2.WatchRequest, fleet_pb2.WatchEvent]) -> None:
    while await stream.read() is not grpc.aio.EOF:
        pass
    raise grpc.aio.AioRpcError(
        await stream.code(), await stream.initial_metadata(), await stream.trailing_metadata(), await stream.details()
    )


async def test_a_revoked_hosts_link_ends_its_claims_are_over_and_it_comes_back_only_by_a_new_token(
    mesh: Mesh, second: Replica
) -> None:
    host = await mesh.join("alpha")
    await mesh.apply({"worker": "alpha"})
    await mesh.until_available("worker")
    before = StoredIdentity.load(host.pki)
    stale_token = await mesh.token("alpha")
    agent_id = UUID((await mesh.agents())["worker"].id)
    await mesh.register_value(
        "insert into fleet.card (tenant_id, card_id, title, status, holder_kind, holder_id, holder_name, fence, "
        "attempts, claimed_at, lease_until, renew_until, made_by_kind, made_by_id, made_by_name) "
        "select tenant_id, 'c1', 'c1', 'claimed', 'agent', agent_id, name, 1, 1, "
        "now(), now() + interval '1 hour', now() + interval '2 hours', 'agent', agent_id, name "
        "from fleet.agent where agent_id = $1",
        agent_id,
    )
    reply = await revoke(mesh, HOST, "alpha")
    assert (list(reply.cards), reply.tokens, reply.already) == (["c1"], 1, False)
    await eventually(lambda: "identity-revoked" in host.program.log.read_text(), "the host hears why", host.program)
    assert (await mesh.host_row("alpha")).state == fleet_pb2.HOST_STATE_REVOKED
    await _card_is(mesh, "ready")
    assert (await mesh.agents())["worker"].state == fleet_pb2.AGENT_STATE_LOST
    assert "worker" in host.tmux("list-sessions"), "what runs there is for that machine to end"
    again = await revoke(mesh, HOST, "alpha")
    assert again.already

    with pytest.raises(FleetError) as void:
        await asyncio.to_thread(enrolment.enrol, JoinToken.parse(stale_token), host.folder / "stale")
    assert void.value.code == "token-expired"
    await asyncio.to_thread(enrolment.enrol, JoinToken.parse(await mesh.token("alpha")), host.pki)
    await mesh.until_host("alpha", fleet_pb2.HOST_STATE_LIVE)
    assert StoredIdentity.load(host.pki).identity_epoch == before.identity_epoch + 1
    await mesh.until_available("worker")
    receipt = await mesh.until_step(await mesh.send("worker", "true"))
    assert receipt.step == messages_pb2.MESSAGE_STEP_SUBMITTED
    async with wire.aio_channel(before, second.address) as channel:
        renew = identity_pb2_grpc.IdentityServiceStub(channel).Renew
        assert (await refused(lambda: renew(Renewal.of(before).request()))).code == "identity-superseded"


async def _card_is(mesh: Mesh, status: str) -> None:
    async with asyncio.timeout(30):
        while await mesh.register_value("select status from fleet.card where card_id = 'c1'") != status:
            await asyncio.sleep(0.05)
