"""The register put back to a backup: what hosts did since is heard again, nothing is typed twice, the fleet obeys."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest
from mosaic_controlplane.register.postgres_binaries import wheel_binaries
from mosaic_framework import enrolment
from mosaic_framework.enrolment import JoinToken
from mosaic_framework.errors import FleetError
from mosaic_framework.ids import new_id
from mosaic_proto.v1 import fleet_pb2, messages_pb2

from tests.support.mesh import Mesh
from tests.support.postgres import Databases

SUBMITTED = messages_pb2.MESSAGE_STEP_SUBMITTED


def restored(mesh: Mesh) -> subprocess.CompletedProcess[str]:
    """Run `mosaic-controlplane restored` where the control plane runs."""
    return subprocess.run(
        [sys.executable, "-m", "mosaic_controlplane.main", "restored"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **mesh.controlplane.environment, "MOSAIC_HOME": str(mesh.controlplane.home)},
    )


def backup(url: str, file: Path) -> None:
    subprocess.run([str(wheel_binaries() / "pg_dump"), "--format=custom", f"--file={file}", url], check=True)


def put_back(file: Path, url: str) -> None:
    command = [str(wheel_binaries() / "pg_restore"), "--no-owner", "--exit-on-error", f"--dbname={url}", str(file)]
    subprocess.run(command, check=True)


async def first_event(mesh: Mesh, cursor: str) -> fleet_pb2.WatchEvent:
    call = mesh.fleet.Watch(fleet_pb2.WatchRequest(cursor=cursor), wait_for_ready=True)
    try:
        event = await asyncio.wait_for(call.read(), 20)
        assert isinstance(event, fleet_pb2.WatchEvent)
        return event
    finally:
        call.cancel()


async def cursor_now(mesh: Mesh) -> str:
    call = mesh.fleet.Watch(fleet_pb2.WatchRequest())
    try:
        async with asyncio.timeout(20):
            async for event in call:
                if event.bookmark.snapshot_complete:
                    return event.cursor
    finally:
        call.cancel()
    raise AssertionError("the snapshot was not complete")


async def act(mesh: Mesh, action: fleet_pb2.SeatAction.ValueType) -> None:
    await mesh.fleet.ChangeSeats(
        fleet_pb2.ChangeSeatsRequest(request_id=str(new_id()), action=action), wait_for_ready=True
    )


async def restart(mesh: Mesh) -> str:
    """Restart the seat through the control plane; returns the new run."""
    before = (await mesh.agents())["worker"].run_id
    await act(mesh, fleet_pb2.SEAT_ACTION_RESTART)
    agent = await mesh.until_agent(
        "worker", lambda agent: agent.run_id != before and agent.observed_generation == agent.generation
    )
    await mesh.until_available("worker")
    return agent.run_id


async def test_a_register_restored_from_a_backup_catches_up_with_its_hosts(
    mesh: Mesh, databases: Databases, tmp_path: Path
) -> None:
    host = await mesh.join("alpha")
    await mesh.apply({"worker": "alpha"})
    await mesh.until_available("worker")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    busy = await mesh.send("worker", f"cat {pipe}")
    assert (await mesh.until_step(busy)).step == SUBMITTED
    waiting = await mesh.send("worker", f"echo x >> {tmp_path}/ran")
    await mesh.until_step(waiting, at_least=messages_pb2.MESSAGE_STEP_DISPATCHED)
    unspent = await mesh.token("beta")
    cursor = await cursor_now(mesh)
    old_epoch = (await mesh.fleet.GetCluster(fleet_pb2.GetClusterRequest())).register_epoch
    url = mesh.controlplane.environment["MOSAIC_DATABASE_URL"]
    await asyncio.to_thread(backup, url, tmp_path / "backup")

    # After the backup: the message is typed, the seat restarted twice, its generation risen.
    await asyncio.to_thread(pipe.write_text, "go\n")
    assert (await mesh.until_step(waiting)).step == SUBMITTED
    await mesh.settled(host, "worker", tmp_path / "ran")
    await restart(mesh)
    run = await restart(mesh)

    refused = await asyncio.to_thread(restored, mesh)
    assert refused.returncode == 6, "a replica runs"
    assert "stop every replica" in refused.stderr
    mesh.controlplane.kill()
    other = databases.create(migrated=False)
    try:
        await asyncio.to_thread(put_back, tmp_path / "backup", other)
        connection = await asyncpg.connect(other)
        await connection.execute("update fleet.replica set seen_at = seen_at - interval '1 minute'")
        await connection.close()
        mesh.controlplane.environment["MOSAIC_DATABASE_URL"] = other
        done = await asyncio.to_thread(restored, mesh)
        assert done.returncode == 0, done.stderr
        assert "1 hosts will be told everything anew, 1 messages are asked for again, 1 join tokens" in done.stdout
        mesh.controlplane.start()
        await mesh.serving()
        await mesh.until_host("alpha", fleet_pb2.HOST_STATE_LIVE)

        receipt = await mesh.until_step(waiting)
        assert receipt.step == SUBMITTED, "its host told every step again"
        assert (tmp_path / "ran").read_text() == "x\n"
        assert (await mesh.fleet.GetCluster(fleet_pb2.GetClusterRequest())).register_epoch != old_epoch
        assert (await first_event(mesh, cursor)).HasField("reset")
        assert await cursor_now(mesh) != cursor
        agent = await mesh.until_agent("worker", lambda agent: agent.observed_generation == agent.generation)
        assert agent.run_id == run, "the seat was left alone"
        # The host obeys, though it had seen newer generations and restarts than the backup has.
        assert await restart(mesh) != run
        await act(mesh, fleet_pb2.SEAT_ACTION_STOP)
        await mesh.until_agent("worker", lambda agent: agent.pid == 0)
        with pytest.raises(FleetError) as late:
            await asyncio.to_thread(enrolment.enrol, JoinToken.parse(unspent), tmp_path / "beta")
        assert late.value.code == "token-expired"
    finally:
        mesh.controlplane.kill()
        databases.drop(other)
