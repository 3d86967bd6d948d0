"""Two hosts in two network namespaces, with host names of their own, joined by token."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from mosaic_framework.ids import new_id
from mosaic_proto.v1 import fleet_pb2, messages_pb2

from tests.support.mesh import Mesh, running_mesh
from tests.support.namespaces import Network, network
from tests.support.program import eventually


@pytest.fixture
def switch() -> Iterator[Network]:
    with network() as made:
        yield made


@pytest.fixture
async def site(switch: Network, database_url: str) -> AsyncIterator[Mesh]:
    async with running_mesh(database_url, listen=switch.here) as mesh:
        yield mesh


async def test_both_hosts_are_listed_under_their_own_names_and_a_send_crosses(
    site: Mesh, switch: Network, tmp_path: Path
) -> None:
    for name in ("alpha", "beta"):
        await site.join(name, prefix=switch.add(name))
    await site.apply({"here": "alpha", "there": "beta"})
    await site.until_available("here", "there")
    machines = {name: (await site.host_row(name)).machine for name in ("alpha", "beta")}
    assert machines == {"alpha": "alpha", "beta": "beta"}
    message_id = await site.send("beta/there", f"hostname > {tmp_path}/name")
    assert (await site.until_step(message_id)).step == messages_pb2.MESSAGE_STEP_SUBMITTED
    await eventually(lambda: (tmp_path / "name").exists() and bool((tmp_path / "name").read_text()), "the command ran")
    assert (tmp_path / "name").read_text().strip() == "beta"


async def test_a_host_whose_link_is_cut_turns_stale_then_lost_and_comes_back(
    site: Mesh, switch: Network, tmp_path: Path
) -> None:
    host = await site.join("alpha", prefix=switch.add("alpha"))
    await site.set_host_times("alpha", beat_interval="0.3 seconds", lost_after="3 seconds")
    host.program.stop()
    host.program.start()  # a new hello takes the new interval
    await site.until_host("alpha", fleet_pb2.HOST_STATE_LIVE)
    await site.apply({"worker": "alpha"})
    await site.until_available("worker")
    before = (await site.agents())["worker"]

    switch.cut("alpha")
    await site.until_host("alpha", fleet_pb2.HOST_STATE_STALE)
    assert (await site.agents())["worker"].state == fleet_pb2.AGENT_STATE_STALE
    await site.until_host("alpha", fleet_pb2.HOST_STATE_LOST)
    assert (await site.agents())["worker"].state == fleet_pb2.AGENT_STATE_LOST
    message_id = await site.send("worker", f"echo x >> {tmp_path}/ran")
    assert (await site.receipt(message_id)).step == messages_pb2.MESSAGE_STEP_QUEUED

    switch.heal("alpha")
    await site.until_host("alpha", fleet_pb2.HOST_STATE_LIVE)
    await site.until_available("worker")
    after = (await site.agents())["worker"]
    assert (after.run_id, after.pid) == (before.run_id, before.pid), "the agent ran on while its host was cut off"
    assert (await site.until_step(message_id)).step == messages_pb2.MESSAGE_STEP_SUBMITTED


async def test_a_host_that_was_away_catches_up_to_the_newest_desired_state(site: Mesh, switch: Network) -> None:
    await site.join("alpha", prefix=switch.add("alpha"))
    await site.apply({"worker": "alpha"})
    await site.until_available("worker")
    first = (await site.agents())["worker"]
    switch.cut("alpha")
    for action in (fleet_pb2.SEAT_ACTION_STOP, fleet_pb2.SEAT_ACTION_START, fleet_pb2.SEAT_ACTION_RESTART):
        await site.fleet.ChangeSeats(
            fleet_pb2.ChangeSeatsRequest(request_id=str(new_id()), action=action, agents=["worker"])
        )
    await site.apply({"worker": "alpha", "second": "alpha"})
    switch.heal("alpha")
    await site.until_available("second")
    caught_up = await site.until_agent(
        "worker",
        lambda agent: (
            agent.observed_generation == agent.generation
            and agent.state == fleet_pb2.AGENT_STATE_AVAILABLE
            and agent.run_id != first.run_id
        ),
    )
    runs = await site.register_value(
        "select count(*) from fleet.run r join fleet.agent a using (agent_id) where a.name = 'worker'"
    )
    assert runs == 2, "one restart, not a stop, a start and a restart"
    assert caught_up.pid != first.pid
