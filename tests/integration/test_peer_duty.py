"""What one replica does for all peers: what one of them does to its own stream is not the others' to suffer."""

from __future__ import annotations

import asyncio
from collections import Counter
from uuid import UUID

import pytest
from mosaic_controlplane.federation.duty import Duty
from mosaic_controlplane.federation.subscriber import Subscriber
from mosaic_controlplane.mesh.wakes import Wakes
from mosaic_controlplane.register import peer as peer_table
from mosaic_controlplane.register import tenant
from mosaic_controlplane.register.database import Database
from mosaic_controlplane.register.peer import NewPeer
from mosaic_framework.ids import new_id
from structlog.testing import capture_logs


class Following(Subscriber):
    """Follows all peers but one, whose streams come to something that nobody foresaw."""

    def __init__(self, bad: UUID, end: BaseException) -> None:
        self.bad, self.end = bad, end
        self.begun: Counter[UUID] = Counter()
        self.again = asyncio.Event()

    async def follow(self, peer_id: UUID) -> None:
        self.begun[peer_id] += 1
        if peer_id != self.bad:
            await asyncio.Event().wait()
        if self.begun[peer_id] == 2:
            self.again.set()
        raise self.end


async def paired(database: Database, name: str) -> UUID:
    async with database.transaction() as connection:
        await tenant.ensure(connection, "default")
        found = await tenant.find_by_name(connection, "default")
        assert found is not None
        peer_id = new_id()
        new = NewPeer(
            found.tenant_id, peer_id, name, f"{name}.mosaic", name, "default", "viewer", b"", [], [], "a test"
        )
        assert await peer_table.add(connection, new)
    return peer_id


@pytest.mark.parametrize("end", [ValueError("nobody foresaw it"), asyncio.CancelledError("gRPC's word")], ids=repr)
async def test_a_stream_that_fails_is_begun_again_and_those_of_other_peers_go_on(
    database: Database, end: BaseException
) -> None:
    good, bad = await paired(database, "east"), await paired(database, "west")
    following = Following(bad, end)
    duty = Duty(
        database,
        Wakes(database, new_id()),
        following,
        changed=asyncio.Event(),
        beside=asyncio.Event().wait,  # type: ignore[arg-type]
    )
    with capture_logs() as logs:
        task = asyncio.create_task(duty.run())
        async with asyncio.timeout(20):
            await following.again.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert following.begun == {good: 1, bad: 2}
    assert [entry["pairing"] for entry in logs if entry["log_level"] == "error"][:1] == [str(bad)]
