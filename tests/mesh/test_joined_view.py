"""What `fleet ps` joins comes from the panes of every host, through the register, to whoever reads."""

from __future__ import annotations

import asyncio
import os

import grpc.aio
import pytest
from mosaic_framework.ids import new_id
from mosaic_proto.v1 import fleet_pb2, runtimes_pb2, runtimes_pb2_grpc

from tests.fakes.updatable import Runtime
from tests.support.mesh import Mesh
from tests.support.program import WAIT_SECONDS, eventually


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


async def update_of(mesh: Mesh, update_id: str) -> runtimes_pb2.RuntimeUpdate:
    last = runtimes_pb2.RuntimeUpdate()
    async with asyncio.timeout(WAIT_SECONDS):
        async for last in runtimes_pb2_grpc.RuntimeServiceStub(mesh.channel).FollowUpdate(
            runtimes_pb2.FollowUpdateRequest(id=update_id)
        ):
            assert last.id == update_id
    return last


async def test_a_runtime_is_updated_through_the_register_once_and_its_end_is_told(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in = Runtime(mesh.folder / "programs")
    monkeypatch.setenv("PATH", f"{stand_in.folder}:{os.environ['PATH']}")
    alpha = await mesh.join("alpha")
    await mesh.apply({"a": "alpha"}, runtime="claude")
    await mesh.until_available("a")
    first = (await mesh.agents())["a"].run_id
    runtimes = runtimes_pb2_grpc.RuntimeServiceStub(mesh.channel)
    plan = await runtimes.PlanUpdates(runtimes_pb2.PlanUpdatesRequest())
    assert [(one.host, one.runtime, list(one.agents), list(one.command)) for one in plan.updates] == [
        ("alpha", "claude", ["a"], ["claude", "update"])
    ]
    request = runtimes_pb2.UpdateRuntimeRequest(
        request_id=str(new_id()), host="alpha", runtime="claude", relaunch=True, drain_ms=20_000
    )
    stand_in.next("slow 2.0.0")
    asked = [(await runtimes.UpdateRuntime(request)).update for _ in range(2)]  # the first answer was lost
    assert asked[0].id == asked[1].id
    request.request_id = str(new_id())
    with pytest.raises(grpc.aio.AioRpcError, match="is being updated on host alpha already"):
        await runtimes.UpdateRuntime(request)
    await eventually(lambda: bool(stand_in.lines("hangs")), "it updates")
    alpha.program.kill()  # amid the command, which goes on
    alpha.program.start()
    (stand_in.folder / "go").touch()
    last = await update_of(mesh, asked[0].id)
    assert last.state == runtimes_pb2.UPDATE_STATE_DONE, last
    assert (last.version_before, last.version_after) == ("1.0.0", "2.0.0")
    assert [(one.name, one.well) for one in last.seats] == [("a", True)]
    assert (await mesh.agents())["a"].run_id > first
    assert len(stand_in.lines("updates")) == 1
    audited = (
        "select count(*) from fleet.audit "
        "where method = 'RuntimeService/UpdateRuntime' and target = $1 and outcome = 'done'"
    )
    assert await mesh.register_value(audited, "alpha/claude") == 1


async def test_an_update_that_its_host_cannot_begin_ends_by_itself(mesh: Mesh) -> None:
    alpha = await mesh.join("alpha")
    await mesh.apply({"a": "alpha"}, runtime="codex")
    alpha.program.kill()
    runtimes = runtimes_pb2_grpc.RuntimeServiceStub(mesh.channel)
    request = runtimes_pb2.UpdateRuntimeRequest(request_id=str(new_id()), host="alpha", runtime="codex")
    asked = (await runtimes.UpdateRuntime(request)).update
    await mesh.register_value("update fleet.runtime_update set start_by = now() - interval '1 second' returning 1")
    last = await update_of(mesh, asked.id)
    assert last.state == runtimes_pb2.UPDATE_STATE_FAILED
    assert last.problem == "its host did not begin it in time; nothing was done"
    with pytest.raises(grpc.aio.AioRpcError, match="no agent's runtime is 'claude'"):
        await runtimes.PlanUpdates(runtimes_pb2.PlanUpdatesRequest(runtime="claude"))
