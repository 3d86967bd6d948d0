"""What `fleet ps` joins comes from the panes of every host, through the register, to whoever reads."""

from __future__ import annotations

import asyncio

import grpc.aio
import pytest
from mosaic_framework.ids import new_id
from mosaic_proto.v1 import fleet_pb2

from tests.support.mesh import WAIT_SECONDS, Mesh


async def test_a_panes_program_its_output_and_sessions_of_nobodys_are_listed(mesh: Mesh) -> None:
    alpha = await mesh.join("alpha")
    await mesh.apply({"a": "alpha"})
    await mesh.until_available("a")
    agent = await mesh.until_agent("a", lambda agent: agent.running_runtime == "shell")
    assert agent.output_at.seconds > 0
    alpha.tmux("new-session", "-d", "-s", "somebodys", "sleep 1000")
    await until_unmanaged(mesh, ["somebodys"])
    alpha.program.kill()
    alpha.program.start()  # the next link tells them anew
    alpha.tmux("kill-session", "-t", "=somebodys:")
    await until_unmanaged(mesh, [])


async def until_unmanaged(mesh: Mesh, names: list[str]) -> None:
    row = fleet_pb2.Host()
    async with asyncio.timeout(WAIT_SECONDS):
        while [one.name for one in row.unmanaged] != names or not row.name:
            row = await mesh.host_row("alpha")
            await asyncio.sleep(0.05)
    socket = mesh.hosts["alpha"].socket_name
    assert all(one.socket_name == socket and one.pid and one.command == "sleep" for one in row.unmanaged)


async def change(mesh: Mesh, **request: object) -> fleet_pb2.ChangeSeatsReply:
    return await mesh.fleet.ChangeSeats(
        fleet_pb2.ChangeSeatsRequest(action=fleet_pb2.SEAT_ACTION_RESET, agents=["a"], **request),  # type: ignore[arg-type]
        wait_for_ready=True,
    )


async def test_a_reset_ends_the_run_in_the_register_once_however_often_it_is_asked_for(mesh: Mesh) -> None:
    await mesh.join("alpha")
    await mesh.apply({"a": "alpha"})
    await mesh.until_available("a")
    first = (await mesh.agents())["a"].run_id
    request_id = str(new_id())
    for _ in range(2):  # the first answer was lost
        (agent,) = (await change(mesh, request_id=request_id)).agents
    later = await mesh.until_agent("a", lambda now: now.observed_generation == agent.generation and now.run_id != first)
    assert later.generation == 2
    await mesh.until_available("a")
    ended = "select end_reason from fleet.run where run_id = $1::text::uuid"
    async with asyncio.timeout(WAIT_SECONDS):
        while await mesh.register_value(ended, first) != "reset":
            await asyncio.sleep(0.05)
    assert await mesh.register_value("select count(*) from fleet.run") == 2
    with pytest.raises(grpc.aio.AioRpcError, match="cannot be reset by /new"):
        await change(mesh, request_id=str(new_id()), reset_way="new")
    with pytest.raises(grpc.aio.AioRpcError, match="no way to reset"):
        await change(mesh, request_id=str(new_id()), reset_way="burn")
