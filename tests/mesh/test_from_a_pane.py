"""`mosaic` inside a pane: as the agent that sits there, and as nobody else."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import grpc
import pytest
from mosaic_framework import pane
from mosaic_framework.ids import new_id
from mosaic_framework.wire import error_from_rpc
from mosaic_hostagent.relay import AT_ONCE
from mosaic_proto.v1 import common_pb2, fleet_pb2, fleet_pb2_grpc

from tests.support.mesh import Host, Mesh
from tests.support.pane import inside, mosaic
from tests.support.program import eventually


async def a_host_with_seats(mesh: Mesh, **classes: str) -> Host:
    host = await mesh.join("alpha")
    await mesh.apply(dict.fromkeys(classes, "alpha"), classes=classes)
    await mesh.until_available(*classes)
    return host


async def test_what_is_sent_from_a_pane_is_sent_by_its_agent(mesh: Mesh) -> None:
    await a_host_with_seats(mesh, coder0="code", coder1="code")
    environment = await inside(mesh, "coder0")
    sent = mosaic(environment, "agent", "send", "coder1", "-m", "true", "-o", "json")
    assert (sent.code, sent.json_lines[-1]["sender"]["name"]) == (0, "coder0"), sent
    receipt = await mesh.receipt(sent.json_lines[-1]["id"])
    assert receipt.sender.kind == common_pb2.PRINCIPAL_KIND_AGENT
    assert (receipt.sender.host, receipt.sender.name) == ("alpha", "coder0")
    names = [one["name"] for one in mosaic(environment, "agent", "ls", "-o", "json").json["items"]]
    assert names == ["coder0", "coder1"]
    assert mosaic(environment, "message", "show", sent.json_lines[-1]["id"], "-o", "json").json["body"] == "true"


async def test_an_agent_may_do_what_its_class_may_and_no_more(mesh: Mesh) -> None:
    await a_host_with_seats(mesh, boss="orchestrator", coder="code")
    coder, boss = await inside(mesh, "coder"), await inside(mesh, "boss")
    for refused in (mosaic(coder, "host", "token", "beta"), mosaic(coder, "fleet", "restart", "boss")):
        assert (refused.code, refused.error_code) == (4, "denied"), refused
    assert mosaic(boss, "host", "token", "beta").code == 4
    done = mosaic(boss, "fleet", "restart", "coder")
    assert done.code == 0, done


async def test_a_token_that_is_wrong_or_of_an_ended_session_is_refused(mesh: Mesh) -> None:
    await a_host_with_seats(mesh, coder="code", other="code")
    stolen, other = await inside(mesh, "coder"), await inside(mesh, "other")
    before = (await mesh.agents())["coder"]
    await mesh.fleet.ChangeSeats(
        fleet_pb2.ChangeSeatsRequest(request_id=str(new_id()), action=fleet_pb2.SEAT_ACTION_RESTART, agents=["coder"])
    )
    await mesh.until_agent("coder", lambda one: one.run_id != before.run_id and one.pid > 0)
    wrong = {**other, pane.TOKEN: "0" * 64}
    none = {key: value for key, value in other.items() if key != pane.TOKEN}
    for environment in (stolen, wrong, none, {**other, pane.TOKEN: "ü\n"}):
        refused = mosaic(environment, "agent", "ls")
        assert (refused.code, refused.error_code) == (4, "session-refused"), refused
    assert mosaic(await inside(mesh, "coder"), "agent", "ls").code == 0


async def test_a_pane_keeps_its_token_while_its_host_agent_is_killed_and_started_again(mesh: Mesh) -> None:
    host = await a_host_with_seats(mesh, coder="code")
    environment = await inside(mesh, "coder")
    before = (await mesh.host_row("alpha")).link_epoch
    host.program.kill()
    away = mosaic(environment, "agent", "ls")
    assert away.code == 5, away
    assert "host-agent" in away.err
    host.program.start()
    async with asyncio.timeout(20):
        while (await mesh.host_row("alpha")).link_epoch == before:
            await asyncio.sleep(0.05)
    again = mosaic(environment, "agent", "ls")
    assert again.code == 0, again


async def test_a_call_in_the_first_moment_of_a_session_is_answered(mesh: Mesh, tmp_path: Path) -> None:
    await mesh.join("alpha")
    script = f"{sys.executable} -m mosaic_cli.main agent ls -o json > {tmp_path}/out; sleep 1000"
    await mesh.apply({"quick": "alpha"}, command={"quick": ["sh", "-c", script]})
    await eventually(lambda: (tmp_path / "out").exists() and (tmp_path / "out").read_text().strip() != "", "it called")
    await eventually(lambda: (tmp_path / "out").read_text().rstrip().endswith("}"), "it was answered")
    assert json.loads((tmp_path / "out").read_text())["items"][0]["name"] == "quick"


async def test_inside_a_pane_no_context_can_be_chosen(mesh: Mesh) -> None:
    await a_host_with_seats(mesh, coder="code")
    refused = mosaic(await inside(mesh, "coder"), "agent", "ls", "--context", "local")
    assert (refused.code, refused.error_code) == (2, "one-self"), refused


async def test_the_sockets_folder_is_closed_to_others_and_the_token_in_no_argument(mesh: Mesh) -> None:
    host = await a_host_with_seats(mesh, coder="code")
    environment = await inside(mesh, "coder")
    assert Path(environment[pane.SOCKET]).parent.stat().st_mode & 0o777 == 0o700
    token = environment[pane.TOKEN]
    assert token not in host.tmux("show-environment", "-g")
    arguments = b"".join(path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists())
    assert token.encode() not in arguments
    kept = [path for path in host.folder.rglob("*") if path.is_file() and token.encode() in path.read_bytes()]
    assert kept == []


async def test_a_command_of_an_agent_with_too_many_calls_under_way_waits_for_one_to_end(mesh: Mesh) -> None:
    host = await a_host_with_seats(mesh, coder="code")
    environment = await inside(mesh, "coder")
    token = ((pane.TOKEN_KEY, environment[pane.TOKEN]),)
    async with grpc.aio.insecure_channel(f"unix:{environment[pane.SOCKET]}") as channel:
        fleet = fleet_pb2_grpc.FleetServiceStub(channel)
        watches = [fleet.Watch(fleet_pb2.WatchRequest(), metadata=token) for _ in range(AT_ONCE)]
        for watch in watches:
            assert await watch.read() is not grpc.aio.EOF
        with pytest.raises(grpc.RpcError) as refused:
            await fleet.ListAgents(fleet_pb2.ListAgentsRequest(), metadata=token)
        told = error_from_rpc(refused.value)
        assert (told.code, told.what) == ("too-many-calls", "this agent has too many calls under way")
        assert str(AT_ONCE) in told.why
        command = asyncio.create_task(asyncio.to_thread(mosaic, environment, "agent", "ls"))
        refusals = f'"{told.code}"'
        await eventually(lambda: host.program.log.read_text().count(refusals) > 1, "it is refused", host.program)
        watches[0].cancel()
        done = await command
        assert done.code == 0, done
