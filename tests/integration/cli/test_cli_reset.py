"""Promises of `mosaic agent reset`, over the real wire."""

from __future__ import annotations

import pytest
from mosaic_proto.v1 import fleet_pb2

from tests.fakes.control_plane import FakeControlPlane
from tests.support.cli import Mosaic


def reply(plane: FakeControlPlane, agent: fleet_pb2.Agent) -> None:
    """Let ChangeSeats answer with the agent as it is now, wanted one generation on."""
    plane.change_reply = fleet_pb2.ChangeSeatsReply(
        agents=[agent], generations=[fleet_pb2.HostGeneration(host=agent.host, generation=4)]
    )
    agent.generation += 1


def test_a_reset_waits_for_the_new_run_and_shows_it(plane: FakeControlPlane, mosaic: Mosaic) -> None:
    plane.add_host("build1")
    agent = plane.add_agent("coder0")
    reply(plane, agent)
    agent.observed_generation, agent.run_id = agent.generation, "01900000-0000-7000-8000-000000000999"
    done = mosaic("agent", "reset", "coder0", "-o", "json")
    assert done.code == 0, done.err
    assert plane.changed[0].action == fleet_pb2.SEAT_ACTION_RESET
    assert list(plane.changed[0].agents) == ["coder0"]
    assert done.json["items"][0]["runId"] == "01900000-0000-7000-8000-000000000999"
    assert "run 01900000-0000-7000-8000-000000000999 began" in done.err


@pytest.mark.parametrize(("flag", "way"), [("--clear", "clear"), ("--new", "new"), ("--force", "restart")])
def test_the_way_is_handed_on(plane: FakeControlPlane, mosaic: Mosaic, flag: str, way: str) -> None:
    plane.add_host("build1")
    plane.add_agent("coder0")
    assert mosaic("agent", "reset", "coder0", flag, "--detach").code == 0
    assert plane.changed[0].reset_way == way


def test_two_ways_at_once_are_a_wrong_command_line(plane: FakeControlPlane, mosaic: Mosaic) -> None:
    done = mosaic("agent", "reset", "coder0", "--clear", "--new")
    assert done.code == 2
    assert not plane.changed


def test_a_seat_that_works_on_is_not_finished_and_force_is_named(plane: FakeControlPlane, mosaic: Mosaic) -> None:
    plane.add_host("build1")
    reply(plane, plane.add_agent("coder0", "WORKING"))
    done = mosaic("agent", "reset", "coder0", "--timeout", "300ms")
    assert done.code == 8
    assert "waits for the agent, which is working" in done.err
    assert "--force" in done.err


def test_a_reset_whose_effect_was_not_seen_fails(plane: FakeControlPlane, mosaic: Mosaic) -> None:
    plane.add_host("build1")
    agent = plane.add_agent("coder0", problem="the reset is not proven: nothing was seen")
    reply(plane, agent)
    agent.observed_generation = agent.generation
    done = mosaic("agent", "reset", "coder0")
    assert done.code == 1
    assert "not proven" in done.err
