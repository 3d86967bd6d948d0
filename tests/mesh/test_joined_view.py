"""What `fleet ps` joins comes from the panes of every host, through the register, to whoever reads."""

from __future__ import annotations

import asyncio

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
