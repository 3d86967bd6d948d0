"""A capture is answered with the terminal's text, or with why it cannot be, before whoever asked gives up."""

from __future__ import annotations

import os
import signal

import pytest
from mosaic_controlplane.mesh import links
from mosaic_hostagent import capturing
from mosaic_hostagent.capturing import capture
from mosaic_hostagent.readiness import UNSEEN
from mosaic_proto.v1 import host_link_pb2 as pb

from tests.support.hostagent import World, eventually
from tests.support.seats import server_pid, sits


def asking(name: str, *, lines: int = 0) -> pb.CaptureTerminal:
    return pb.CaptureTerminal(call_id="c", agent_id=f"agent-{name}", lines=lines)


async def test_what_a_seat_shows_is_told_and_of_a_seat_that_is_not_here_that(world: World) -> None:
    world.want(world.seat("a", command=["sh", "-c", "echo farewell; cat"]), generation=1)
    world.start()
    await sits(world, "a")
    await eventually(lambda: "farewell" in world.private.tmux("capture-pane", "-p", "-t", "=a:"), "it has said it")
    shown = await capture(world.supervisor.residents, world.pool, asking("a", lines=10))
    assert (shown.call_id, shown.text, shown.problem) == ("c", "farewell", "")
    nobody = await capture(world.supervisor.residents, world.pool, asking("nobody"))
    assert (nobody.call_id, nobody.text, nobody.problem) == ("c", "", "the seat does not run on this host")


async def test_a_tmux_server_that_hangs_is_named_before_the_control_plane_gives_up(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert capturing.CAPTURE_SECONDS < links.CAPTURE_SECONDS
    monkeypatch.setattr(capturing, "CAPTURE_SECONDS", 0.2)
    world.want(world.seat("a"), generation=1)
    world.start()
    await sits(world, "a")
    server = int(server_pid(world))
    os.kill(server, signal.SIGSTOP)
    try:
        answer = await capture(world.supervisor.residents, world.pool, asking("a"))
    finally:
        os.kill(server, signal.SIGCONT)
    assert answer.problem == "its tmux server did not answer within 0.2 s"
    again = await capture(world.supervisor.residents, world.pool, asking("a"))
    assert again.problem == ""


async def test_a_seat_that_nobody_can_look_for_is_not_told_as_one_that_does_not_run(world: World) -> None:
    world.want(world.seat("a"), generation=1)
    world.start()
    await sits(world, "a")
    await world.stop()
    resident = world.resident("a")
    resident.session = None
    resident.enter(UNSEEN)
    answer = await capture(world.supervisor.residents, world.pool, asking("a"))
    assert "does not answer" in answer.problem
