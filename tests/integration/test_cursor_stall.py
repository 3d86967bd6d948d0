"""A transaction that stays open holds watchers back, and the replica knows for how long."""

from __future__ import annotations

import asyncio

import pytest
from mosaic_controlplane.mesh import liveness as liveness_module
from mosaic_controlplane.mesh.links import Links
from mosaic_controlplane.mesh.liveness import Liveness
from mosaic_controlplane.mesh.wakes import Wakes
from mosaic_controlplane.register.database import Database
from structlog.testing import capture_logs

from tests.support.register_rows import make_site


async def test_the_stall_of_the_cursor_grows_while_a_transaction_is_open_and_is_told(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(liveness_module, "STALL_SECONDS", 0.2)
    site = await make_site(database)
    wakes = Wakes(database, site.replica_id)
    links = Links(database, wakes, site.replica_id)
    replica = Liveness(database, wakes, links, site.replica_id, "127.0.0.1:1")
    with capture_logs() as logs:
        async with asyncio.timeout(30):  # transactions of other databases on this server may hold it for a while, too
            async with database.connection() as holder, holder.transaction():
                await holder.fetchval("select pg_current_xact_id()")
                while replica.cursor_stall.seconds < liveness_module.STALL_SECONDS:
                    await replica.tick()
                    await asyncio.sleep(0.02)
            while replica.cursor_stall.seconds >= liveness_module.STALL_SECONDS:
                await replica.tick()
    told = [entry["event"] for entry in logs if "held back" in entry["event"] or "holds watchers" in entry["event"]]
    assert told == ["an open transaction holds watchers back", "watchers are held back no more"]
