"""A host's journal put back to how it was at some point of a message's way: nothing is typed twice or left open."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from mosaic_framework.ids import new_id
from mosaic_framework.paths import Home
from mosaic_proto.v1 import fleet_pb2, messages_pb2

from tests.support.mesh import Host, Mesh, running_mesh
from tests.support.postgres import Databases
from tests.support.program import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")
UNKNOWN = messages_pb2.MESSAGE_STEP_UNKNOWN
SUBMITTED = messages_pb2.MESSAGE_STEP_SUBMITTED
DISPATCHED = messages_pb2.MESSAGE_STEP_DISPATCHED


class Snapshot:
    """The journal of a host as it was when this was made, taken while the host-agent runs, under one link epoch."""

    def __init__(self, host: Host, folder: Path) -> None:
        self._host = host
        self._file = folder / f"snapshot-{len(list(folder.iterdir()))}.db"
        living = sqlite3.connect(self._journal / "journal.db")
        copy = sqlite3.connect(self._file)
        living.backup(copy)
        living.close()
        copy.close()

    @property
    def has_told_all(self) -> bool:
        """Whether the register had acknowledged every fact."""
        with contextlib.closing(sqlite3.connect(self._file)) as database:
            return bool(database.execute("select count(*) = 0 from outbox").fetchone()[0])

    @property
    def _journal(self) -> Path:
        return Home(self._host.program.home).state / "journal"

    def restore(self) -> None:
        """Put it back; the host-agent has ended."""
        assert not self._host.program.runs
        shutil.rmtree(self._journal)
        self._journal.mkdir(mode=0o700)
        shutil.copyfile(self._file, self._journal / "journal.db")


def ran(folder: Path, name: str = "ran") -> list[str]:
    """What was carried out: each message appends a word."""
    found = folder / name
    return found.read_text().split() if found.exists() else []


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(databases: Databases) -> AsyncIterator[Mesh]:
    url = databases.create()
    async with running_mesh(url) as mesh:
        await mesh.join("alpha")
        await mesh.apply({"worker": "alpha"})
        yield mesh
    databases.drop(url)


@pytest_asyncio.fixture(loop_scope="module")
async def mesh(shared: Mesh) -> AsyncIterator[Mesh]:
    """The shared mesh with every part of it up, whatever the test before did."""
    await shared.until_available("worker")
    yield shared
    for program in (shared.controlplane, shared.hosts["alpha"].program):
        program.kill()
        program.start()
    await shared.serving()


async def works_on(mesh: Mesh, host: Host, folder: Path) -> None:
    """The seat takes the next message, and nothing of an earlier one is typed late."""
    after = await mesh.send("worker", f"echo done > {folder}/done")
    assert (await mesh.until_step(after)).step == SUBMITTED
    await mesh.settled(host, "worker", folder / "done")


async def waiting_behind_a_busy_seat(mesh: Mesh, host: Host, folder: Path, body: str) -> tuple[str, Path]:
    """Send `body` to a seat that is busy until something is written into the pipe that is returned."""
    pipe = folder / "pipe"
    os.mkfifo(pipe)
    first = await mesh.send("worker", f"cat {pipe} > {folder}/unblocked")
    assert (await mesh.until_step(first)).step == SUBMITTED
    message_id = await mesh.send("worker", body)
    assert (await mesh.until_step(message_id, at_least=DISPATCHED)).step == DISPATCHED
    return message_id, pipe


async def unblock(pipe: Path) -> None:
    await asyncio.to_thread(pipe.write_text, "go\n")


@pytest.mark.parametrize("taken", ["before it was given", "while it waited"])
async def test_what_was_typed_since_and_never_heard_of_by_the_register_is_not_typed_again(
    mesh: Mesh, tmp_path: Path, taken: str
) -> None:
    host = mesh.hosts["alpha"]
    if taken == "before it was given":
        # The register never hears that the host has it: the control plane dies with the first word of it.
        links = host.program.log.read_text().count('"link up"')
        await eventually(lambda: Snapshot(host, tmp_path).has_told_all, "what came before is in the register")
        mesh.controlplane.stop()
        mesh.controlplane.start(killed_at="controlplane.events-received")
        await mesh.serving()
        await eventually(lambda: host.program.log.read_text().count('"link up"') > links, "it links anew", host.program)
        snapshot = Snapshot(host, tmp_path)  # under the link by which the message comes
        message_id = str(new_id())
        with contextlib.suppress(ConnectionError):  # it may be killed before its answer is out
            await mesh.send_once("worker", f"echo x >> {tmp_path}/ran", message_id=message_id)
        await mesh.controlplane.killed()
    else:
        message_id, pipe = await waiting_behind_a_busy_seat(mesh, host, tmp_path, f"echo x >> {tmp_path}/ran")
        snapshot = Snapshot(host, tmp_path)
        mesh.controlplane.kill()
        await unblock(pipe)
    await mesh.settled(host, "worker", tmp_path / "ran")
    host.program.kill()
    snapshot.restore()
    host.program.start()
    mesh.controlplane.start()
    await mesh.serving()
    receipt = await mesh.until_step(message_id)
    await works_on(mesh, host, tmp_path)
    assert receipt.step == UNKNOWN, receipt
    assert ran(tmp_path) == ["x"], host.screen("worker")


async def test_a_receipt_does_not_stay_at_typed_when_the_journal_no_longer_knows_the_message(
    mesh: Mesh, tmp_path: Path
) -> None:
    host = mesh.hosts["alpha"]
    host.program.stop()
    host.program.start(killed_at="hostagent.submitted-recorded")
    await mesh.until_available("worker")
    snapshot = Snapshot(host, tmp_path)
    message_id = await mesh.send("worker", f"echo x >> {tmp_path}/ran")
    await host.program.killed()
    await mesh.settled(host, "worker", tmp_path / "ran")
    heard = (await mesh.receipt(message_id)).step  # the last word may have gone just before the end
    snapshot.restore()
    host.program.start()
    receipt = await mesh.until_step(message_id)
    await works_on(mesh, host, tmp_path)
    assert receipt.step == (SUBMITTED if heard == SUBMITTED else UNKNOWN), receipt
    assert ran(tmp_path) == ["x"], host.screen("worker")


async def test_what_the_register_knows_as_typed_is_not_typed_again_even_when_the_terminal_is_gone_too(
    mesh: Mesh, tmp_path: Path
) -> None:
    host = mesh.hosts["alpha"]
    message_id, pipe = await waiting_behind_a_busy_seat(mesh, host, tmp_path, f"echo x >> {tmp_path}/ran")
    snapshot = Snapshot(host, tmp_path)
    await unblock(pipe)
    assert (await mesh.until_step(message_id)).step == SUBMITTED
    await mesh.settled(host, "worker", tmp_path / "ran")
    host.program.kill()
    host.tmux("kill-server")  # as at a reboot: only the register remembers
    snapshot.restore()
    host.program.start()
    await mesh.until_host("alpha", fleet_pb2.HOST_STATE_LIVE)
    await mesh.until_available("worker")
    await works_on(mesh, host, tmp_path)
    assert ran(tmp_path) == ["x"], host.screen("worker")
    assert (await mesh.receipt(message_id)).step == SUBMITTED


async def test_nothing_of_a_restored_journal_is_typed_before_the_control_plane_has_seen_it(
    mesh: Mesh, tmp_path: Path
) -> None:
    host = mesh.hosts["alpha"]
    message_id, pipe = await waiting_behind_a_busy_seat(mesh, host, tmp_path, f"echo x >> {tmp_path}/ran")
    snapshot = Snapshot(host, tmp_path)
    await unblock(pipe)
    assert (await mesh.until_step(message_id)).step == SUBMITTED
    await mesh.settled(host, "worker", tmp_path / "ran")
    host.program.kill()
    host.tmux("kill-server")
    snapshot.restore()
    mesh.controlplane.kill()
    host.program.start()
    # The seat comes up without a control plane, and is ready for text.
    await eventually(lambda: "worker" in host.tmux("list-sessions"), "the seat runs again", host.program)
    await asyncio.sleep(2)  # a shell is ready within a fraction of that: what would be typed is typed by now
    # What it writes down by itself meanwhile, and another start, do not make it the newest.
    host.program.kill()
    host.program.start()
    mesh.controlplane.start()
    await mesh.serving()
    await works_on(mesh, host, tmp_path)
    assert ran(tmp_path) == ["x"], host.screen("worker")


async def test_what_still_waited_in_a_restored_journal_is_unknown_and_not_lost(mesh: Mesh, tmp_path: Path) -> None:
    host = mesh.hosts["alpha"]
    first, pipe = await waiting_behind_a_busy_seat(mesh, host, tmp_path, f"echo x >> {tmp_path}/ran")
    snapshot = Snapshot(host, tmp_path)
    second = await mesh.send("worker", f"echo y >> {tmp_path}/ran")
    assert (await mesh.until_step(second, at_least=DISPATCHED)).step == DISPATCHED
    host.program.kill()
    snapshot.restore()
    host.program.start()
    steps = [(await mesh.until_step(message_id)).step for message_id in (first, second)]
    await unblock(pipe)
    await works_on(mesh, host, tmp_path)
    assert steps == [UNKNOWN, UNKNOWN]
    assert ran(tmp_path) == []


async def test_a_journal_restored_twice_from_one_snapshot_is_found_out_each_time(mesh: Mesh, tmp_path: Path) -> None:
    host = mesh.hosts["alpha"]
    snapshot = Snapshot(host, tmp_path)
    for number in ("1", "2"):
        message_id = await mesh.send("worker", f"echo {number} >> {tmp_path}/ran")
        assert (await mesh.until_step(message_id)).step == SUBMITTED
        host.program.kill()
        snapshot.restore()
        host.program.start()
        await mesh.until_available("worker")
        await eventually(
            lambda number=number: host.program.log.read_text().count("journal-restored") >= int(number),  # type: ignore[misc]
            "the restored journal is found out",
            host.program,
        )
    await works_on(mesh, host, tmp_path)
    assert ran(tmp_path) == ["1", "2"]


async def test_a_journal_that_is_the_newest_goes_on_after_a_kill_with_all_that_waits_in_it(
    mesh: Mesh, tmp_path: Path
) -> None:
    host = mesh.hosts["alpha"]
    message_id, pipe = await waiting_behind_a_busy_seat(mesh, host, tmp_path, f"echo x >> {tmp_path}/ran")
    before = host.program.log.read_text().count("journal-restored")
    host.program.kill()
    host.program.start()
    await unblock(pipe)
    assert (await mesh.until_step(message_id)).step == SUBMITTED
    await mesh.settled(host, "worker", tmp_path / "ran")
    assert host.program.log.read_text().count("journal-restored") == before
