"""States of agents from their own signals, through every part: hooks, reports and heartbeats, to the register."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path

import pytest
from mosaic_framework import pane
from mosaic_proto.v1 import fleet_pb2, signals_pb2, signals_pb2_grpc

from tests.fakes import claude_hooks
from tests.mesh.test_from_a_pane import inside, mosaic
from tests.support.checkout import ROOT
from tests.support.mesh import Host, Mesh

WORKING, AVAILABLE = fleet_pb2.AGENT_STATE_WORKING, fleet_pb2.AGENT_STATE_AVAILABLE
WAITING, STUCK = fleet_pb2.AGENT_STATE_WAITING, fleet_pb2.AGENT_STATE_STUCK


async def a_claude(mesh: Mesh, folder: Path) -> Host:
    """A host with one seat in which a stand-in for Claude Code fires its hooks."""
    program = folder / "bin" / "claude"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {claude_hooks.__file__} "$@"\n')
    program.chmod(0o755)
    host = await mesh.join("alpha", started=False)
    host.environment["PATH"] = f"{program.parent}:/usr/bin:/bin"
    host.program.start()
    await mesh.until_host("alpha", fleet_pb2.HOST_STATE_LIVE)
    await mesh.apply({"cl": "alpha"}, runtime="claude")
    await mesh.until_available("cl")
    return host


async def until_state(mesh: Mesh, name: str, state: int, source: str) -> fleet_pb2.Agent:
    return await mesh.until_agent(name, lambda one: (one.state, one.state_source) == (state, source))


async def explain(mesh: Mesh, name: str) -> signals_pb2.Explanation:
    stub: signals_pb2_grpc.SignalServiceAsyncStub = signals_pb2_grpc.SignalServiceStub(mesh.channel)
    return (await stub.Explain(signals_pb2.ExplainRequest(address=name))).explanation


async def test_hooks_tell_of_work_questions_errors_and_rest(mesh: Mesh, tmp_path: Path) -> None:
    host = await a_claude(mesh, tmp_path)
    agent = await mesh.until_agent("cl", lambda one: one.reported_model == "claude-sonnet-5-5")
    assert agent.runtime_session == claude_hooks.SESSION
    await mesh.until_agent("cl", lambda one: one.runtime_version == "2.1.329")
    kept = await mesh.register_value("select runtime_session from fleet.run where run_id = $1", agent.run_id)
    assert kept == claude_hooks.SESSION

    host.tmux("send-keys", "-t", "=cl:", "hello", "Enter")
    agent = await until_state(mesh, "cl", AVAILABLE, "hook")
    assert agent.state_detail == "Stop"
    host.tmux("send-keys", "-t", "=cl:", "ask", "Enter")
    agent = await until_state(mesh, "cl", WAITING, "hook")
    assert agent.state_detail == "it asks for permission: Bash"
    host.tmux("send-keys", "-t", "=cl:", "", "Enter")
    await until_state(mesh, "cl", AVAILABLE, "hook")
    host.tmux("send-keys", "-t", "=cl:", "fail", "Enter")
    agent = await until_state(mesh, "cl", STUCK, "hook")
    assert "overloaded" in agent.state_detail
    host.tmux("send-keys", "-t", "=cl:", "hang", "Enter")
    await until_state(mesh, "cl", WORKING, "hook")

    told = await explain(mesh, "cl")
    assert (told.state, told.rule) == (WORKING, "works-by-hook")
    assert {signal.source for signal in told.signals} == {"hook", "screen", "process", "heartbeat"}
    assert any(signal.name == "phase" and signal.age_ms >= 0 for signal in told.signals)


async def test_what_hooks_told_while_the_host_agent_was_dead_counts_when_it_is_back(mesh: Mesh, tmp_path: Path) -> None:
    host = await a_claude(mesh, tmp_path)
    environment = await inside(mesh, "cl")
    host.program.kill()
    host.tmux("send-keys", "-t", "=cl:", "fail", "Enter")
    async with asyncio.timeout(20):
        while (
            not Path(environment[pane.SPOOL]).exists()
            or b"StopFailure" not in Path(environment[pane.SPOOL]).read_bytes()
        ):
            await asyncio.sleep(0.05)
    host.program.start()
    await until_state(mesh, "cl", STUCK, "hook")


async def test_an_agent_reports_its_state_from_its_pane(mesh: Mesh) -> None:
    await mesh.join("alpha")
    await mesh.apply({"own": "alpha"}, command={"own": ["sh", "-c", "while :; do sleep 1000; done"]})
    environment = await inside(mesh, "own")
    for state, found in (("working", WORKING), ("stuck", STUCK), ("waiting", WAITING), ("available", AVAILABLE)):
        done = mosaic(environment, "agent", "report", state, "-m", "says so")
        assert done.code == 0, done
        agent = await until_state(mesh, "own", found, "hook")
        assert agent.state_detail == "agent-report: says so"
    refused = mosaic(environment, "agent", "report", "asleep")
    assert (refused.code, refused.error_code) == (2, "no-such-state"), refused
    assert "working, available, waiting, stuck" in refused.err
    outside = {key: value for key, value in environment.items() if key != pane.SOCKET}
    assert mosaic(outside, "agent", "report", "working").error_code == "not-in-a-pane"
    stolen = mosaic(environment | {pane.TOKEN: "0" * 64}, "agent", "report", "working")
    assert (stolen.code, stolen.error_code) == (4, "session-refused"), stolen


async def test_a_heartbeat_file_tells_of_a_program_without_hooks(mesh: Mesh) -> None:
    await mesh.join("alpha")
    beat = 'printf "ts=%s\\npid=$$\\nstatus=busy\\n" "$(date +%s)" > "$MOSAIC_HEARTBEAT_FILE"; sleep 1000'
    await mesh.apply({"own": "alpha"}, command={"own": ["sh", "-c", beat]})
    agent = await until_state(mesh, "own", WORKING, "heartbeat")
    assert agent.state_detail == "its heartbeat says busy"
    told = await explain(mesh, "own")
    assert any(signal.source == "heartbeat" and "healthy" in signal.says for signal in told.signals)
    file = Path((await inside(mesh, "own"))[pane.HEARTBEAT])
    file.write_text("ts=1\nstatus=busy\n")
    await mesh.until_agent(
        "own", lambda one: (one.state_source, one.state) == ("heartbeat", fleet_pb2.AGENT_STATE_UNKNOWN)
    )


@pytest.mark.parametrize("form", ["table", "json"])
async def test_the_command_explains_from_outside_and_from_another_pane(mesh: Mesh, form: str) -> None:
    await mesh.join("alpha")
    await mesh.apply({"one": "alpha", "two": "alpha"})
    await mesh.until_available("one", "two")
    done = mosaic(await inside(mesh, "two"), "agent", "explain", "one", "-o", form)
    assert done.code == 0, done
    assert "rests-on-screen" in done.out


async def test_the_commands_that_the_guide_shows_for_a_pane_work_in_one(mesh: Mesh, tmp_path: Path) -> None:
    await mesh.join("alpha")
    await mesh.apply({"own": "alpha"}, command={"own": ["sh", "-c", "while :; do sleep 1000; done"]})
    (tmp_path / "mosaic").write_text(f'#!/bin/sh\nexec {sys.executable} -m mosaic_cli.main "$@"\n')
    (tmp_path / "mosaic").chmod(0o755)
    environment = await inside(mesh, "own")
    environment["PATH"] = f"{tmp_path}:{environment['PATH']}"
    blocks = re.findall(r"^```sh pane\n(.*?)^```", (ROOT / "docs" / "states.md").read_text(), re.MULTILINE | re.DOTALL)
    shown = [line for block in blocks for line in block.splitlines()]
    assert len(shown) >= 4
    for command in shown:
        process = await asyncio.create_subprocess_exec("sh", "-c", command, env=environment, cwd=ROOT)
        assert await process.wait() == 0, command
    assert "status=working" in Path(environment[pane.HEARTBEAT]).read_text()
