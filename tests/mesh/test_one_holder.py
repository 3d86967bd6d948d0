"""Whatever is reinstalled, restored or started twice: one holder of a host, and no message typed twice."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from pathlib import Path

from mosaic_framework import enrolment
from mosaic_framework.enrolment import JoinToken
from mosaic_framework.paths import Home
from mosaic_proto.v1 import fleet_pb2, messages_pb2

from tests.support.mesh import Mesh
from tests.support.program import Program, eventually


async def test_a_host_reinstalled_under_its_name_takes_over_and_the_old_installation_is_refused(
    mesh: Mesh, tmp_path: Path
) -> None:
    old = await mesh.join("alpha")
    await mesh.apply({"worker": "alpha"})
    await mesh.until_available("worker")
    before = await mesh.host_row("alpha")
    old.program.stop()

    new = Program(["mosaic-hostagent", "serve"], tmp_path / "reinstalled", old.environment)
    new.home.mkdir()
    token = JoinToken.parse(await mesh.token("alpha"))
    await asyncio.to_thread(enrolment.enrol, token, Home(new.home).pki / "host")
    new.start()
    try:
        await mesh.until_host("alpha", fleet_pb2.HOST_STATE_LIVE)
        after = await mesh.host_row("alpha")
        assert after.identity_epoch == before.identity_epoch + 1
        # It does not inherit what the old installation had brought about: its own report counts.
        await mesh.until_agent("worker", lambda agent: agent.observed_generation == agent.generation)
        old.program.start()
        await eventually(
            lambda: "identity-superseded" in old.program.log.read_text(), "the old installation is refused", old.program
        )
        assert (await mesh.host_row("alpha")).identity_epoch == after.identity_epoch
    finally:
        new.kill()


async def test_a_host_restored_with_an_old_journal_types_nothing_twice(mesh: Mesh, tmp_path: Path) -> None:
    host = await mesh.join("alpha")
    await mesh.apply({"worker": "alpha"})
    await mesh.until_available("worker")
    host.program.stop()
    state = Home(host.program.home).state
    shutil.copytree(state, tmp_path / "backup")

    # After the backup: a message is typed, and the host-agent dies before the register hears of it.
    host.program.start(killed_at="hostagent.entered")
    first = await mesh.send("worker", f"echo x >> {tmp_path}/ran")
    await host.program.killed()
    await mesh.settled(host, "worker", tmp_path / "ran")
    shutil.rmtree(state)
    shutil.copytree(tmp_path / "backup", state)
    host.program.start()

    receipt = await mesh.until_step(first)
    assert receipt.step == messages_pb2.MESSAGE_STEP_UNKNOWN, receipt
    second = await mesh.send("worker", f"echo y > {tmp_path}/second")
    assert (await mesh.until_step(second)).step == messages_pb2.MESSAGE_STEP_SUBMITTED
    await mesh.settled(host, "worker", tmp_path / "second")
    assert (tmp_path / "ran").read_text() == "x\n"


async def test_of_two_host_agents_started_for_one_home_the_second_says_who_holds_it(mesh: Mesh) -> None:
    host = await mesh.join("alpha")
    assert host.program.process is not None
    epoch = (await mesh.host_row("alpha")).link_epoch
    second = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "tests.support.launch", "-", "1", "mosaic-hostagent", "serve"],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
        env={**host.program.full_environment},
    )
    assert second.returncode == 6, second.stderr
    assert str(host.program.process.pid) in second.stderr
    assert (await mesh.host_row("alpha")).link_epoch == epoch


async def test_of_two_homes_on_one_tmux_server_the_second_leaves_the_seats_alone(mesh: Mesh, tmp_path: Path) -> None:
    host = await mesh.join("alpha")
    await mesh.apply({"worker": "alpha"})
    await mesh.until_available("worker")
    before = (await mesh.agents())["worker"]
    other = await mesh.join("beta", started=False)
    # The same user's same tmux server, wanted by another home.
    other.program.environment.update(host.environment)
    other.socket_name = host.socket_name
    other.program.start()
    await mesh.until_host("beta", fleet_pb2.HOST_STATE_LIVE)
    await mesh.apply({"worker": "alpha", "intruder": "beta"})
    refused = await mesh.until_agent("intruder", lambda agent: bool(agent.problem))
    assert "another host-agent" in refused.problem
    after = (await mesh.agents())["worker"]
    assert (after.pid, after.run_id) == (before.pid, before.run_id)
