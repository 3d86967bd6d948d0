"""kill -9 of control plane and host-agent at every step of a send: once, or `unknown`; never twice, never lost."""

from __future__ import annotations

import contextlib
import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from mosaic_framework.ids import new_id
from mosaic_framework.paths import Home
from mosaic_proto.v1 import fleet_pb2, messages_pb2

from tests.support.checkout import ROOT
from tests.support.mesh import Host, Mesh, running_mesh
from tests.support.postgres import Databases
from tests.support.program import Program

pytestmark = pytest.mark.asyncio(loop_scope="module")


def places(package: str) -> list[str]:
    """Every place on the way of a message that a program names."""
    return sorted(
        {
            place
            for file in (ROOT / package / f"mosaic_{package}").rglob("*.py")
            for place in re.findall(rf'reached(?:_place)?\("({package}\.[a-z-]+)"\)', file.read_text())
        }
    )


# A message to an agent of another cluster goes another way: test_sends_to_peers.
CONTROLPLANE_PLACES = [place for place in places("controlplane") if not place.startswith("controlplane.peer-")]
# Resets, updates of runtimes and hand-overs without a key have places too, on ways that a shell's message does not go:
# test_resetting, test_updating, test_joined_view, test_by_letterbox.
OTHER_WAYS = ("hostagent.reset-", "hostagent.update-", "hostagent.given")
HOSTAGENT_PLACES = [place for place in places("hostagent") if not place.startswith(OTHER_WAYS)]
# Between these two the host-agent cannot know what the terminal got.
MAY_BE_UNKNOWN = {
    f"hostagent.{place}" for place in ("before-typing", "pasted", "typed-recorded", "before-enter", "entered")
} | {
    # Here it sends a fact up, while the delivery beside it may be at any of those.
    "hostagent.before-event-sent",
    "hostagent.event-sent",
}


def executed(host: Host, folder: Path) -> int:
    """How often the text was carried out: it appends a word to a file, and two if it was typed twice into one line."""
    found = folder / "ran"
    return len(found.read_text().split()) if found.exists() else 0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(databases: Databases) -> AsyncIterator[Mesh]:
    """One mesh with one seat for all places: what a test kills it starts again."""
    url = databases.create()
    async with running_mesh(url) as mesh:
        await mesh.join("alpha")
        await mesh.apply({"worker": "alpha"})
        yield mesh
    databases.drop(url)


@pytest_asyncio.fixture(loop_scope="module")
async def mesh(shared: Mesh) -> AsyncIterator[Mesh]:
    """The shared mesh, every part of it up."""
    host = shared.hosts["alpha"]
    await shared.until_available("worker")
    yield shared
    # Whatever happened in one test is not the next one's.
    for program in (shared.controlplane, host.program):
        program.kill()
        program.start()
    await shared.serving()


def check(host: Host, folder: Path, receipt: messages_pb2.Receipt) -> None:
    ran = executed(host, folder)
    if receipt.step == messages_pb2.MESSAGE_STEP_UNKNOWN:
        assert ran <= 1, host.screen("worker")
    else:
        assert receipt.step == messages_pb2.MESSAGE_STEP_SUBMITTED, receipt
        assert ran == 1, host.screen("worker")


@pytest.mark.parametrize("place", CONTROLPLANE_PLACES)
async def test_a_control_plane_killed_on_the_way_of_a_message_loses_and_doubles_nothing(
    mesh: Mesh, tmp_path: Path, place: str
) -> None:
    host = mesh.hosts["alpha"]
    mesh.controlplane.stop()
    mesh.controlplane.start(killed_at=place)
    await mesh.serving()
    message_id = str(new_id())
    with contextlib.suppress(ConnectionError):  # killed before it could answer: repeated under the same id below
        await mesh.send_once("worker", f"echo x >> {tmp_path}/ran", message_id=message_id)
    await mesh.controlplane.killed()
    mesh.controlplane.start()
    await mesh.serving()
    await mesh.send("worker", f"echo x >> {tmp_path}/ran", message_id=message_id)
    receipt = await mesh.until_step(message_id)
    assert receipt.step == messages_pb2.MESSAGE_STEP_SUBMITTED
    await mesh.settled(host, "worker", tmp_path / "ran")
    check(host, tmp_path, receipt)


@pytest.mark.parametrize("place", HOSTAGENT_PLACES)
async def test_a_host_agent_killed_on_the_way_of_a_message_types_it_once_or_says_unknown(
    mesh: Mesh, tmp_path: Path, place: str
) -> None:
    host = mesh.hosts["alpha"]
    before = (await mesh.agents())["worker"]
    host.program.stop()
    host.program.start(killed_at=place)
    message_id = await mesh.send("worker", f"echo x >> {tmp_path}/ran")
    await host.program.killed()
    host.program.start()
    receipt = await mesh.until_step(message_id)
    # Another message after it shows that the seat works on, and that nothing of the first is typed late.
    after = await mesh.send("worker", f"echo done > {tmp_path}/done")
    assert (await mesh.until_step(after)).step == messages_pb2.MESSAGE_STEP_SUBMITTED
    await mesh.settled(host, "worker", tmp_path / "done")
    check(host, tmp_path, await mesh.receipt(message_id))
    if receipt.step == messages_pb2.MESSAGE_STEP_UNKNOWN:
        assert place in MAY_BE_UNKNOWN, place
    now = (await mesh.agents())["worker"]
    assert (now.run_id, now.pid) == (before.run_id, before.pid), "the seat itself was not touched"
    assert now.state != fleet_pb2.AGENT_STATE_EXITED


@pytest.mark.parametrize("place", ["cli.before-send", "cli.sent", "cli.following"])
async def test_a_command_killed_during_a_send_leaves_the_message_on_its_way_or_never_sent(
    mesh: Mesh, tmp_path: Path, place: str
) -> None:
    host = mesh.hosts["alpha"]
    home = tmp_path / "home"
    mesh.write_context(Home(home))
    command = Program(["mosaic", "agent", "send", "worker", "-m", f"echo x >> {tmp_path}/ran"], home, {})
    known = {receipt.message_id for receipt in await mesh.sent()}
    host.program.signal(signal.SIGSTOP)  # else it may be done before the command has begun to follow
    try:
        command.start(killed_at=place)
        await command.killed()
    finally:
        host.program.signal(signal.SIGCONT)
    sent = [receipt for receipt in await mesh.sent() if receipt.message_id not in known]
    assert len(sent) == (0 if place == "cli.before-send" else 1)
    for receipt in sent:
        check_after = await mesh.until_step(receipt.message_id)
        await mesh.settled(host, "worker", tmp_path / "ran")
        check(host, tmp_path, check_after)
