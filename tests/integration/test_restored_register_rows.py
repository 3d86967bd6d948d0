"""A register restored into another PostgreSQL: numbers of the old one mean nothing in it, and hold nobody up."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest
from mosaic_controlplane.register import change, restore
from mosaic_controlplane.register.database import Database
from mosaic_controlplane.register.restore import ReplicaRuns
from mosaic_framework.ids import new_id

from tests.support.register_rows import Site, make_site

FAR = 2**40
"""A transaction's number that a new server reaches in years."""


@pytest.fixture
async def site(database: Database) -> Site:
    site = await make_site(database)
    await site.apply("coder0")
    async with database.connection() as connection:
        await connection.execute("update fleet.replica set seen_at = now() - interval '1 minute'")
    return site


async def take_up(site: Site) -> UUID:
    epoch = new_id()
    async with site.database.transaction() as connection:
        await restore.take_up(connection, register_epoch=epoch)
    return epoch


async def test_changes_and_marks_of_another_server_hold_no_watcher_back(site: Site) -> None:
    async with site.database.connection() as connection:
        await connection.execute("update fleet.change set xid = $1::text::xid8", str(FAR))
        await connection.execute("update fleet.cluster set changes_forgotten_up_to = $1::text::xid8", str(FAR))
    epoch = await take_up(site)
    async with site.database.connection() as connection:
        cursor, held_back = await change.position(connection, tenant_id=site.tenant_id, register_epoch=epoch)
        assert not held_back
        assert await change.forgotten_up_to(connection) < cursor.xid
        await connection.execute("update fleet.agent set problem = 'new'")
    found: list[change.Change] = []
    while not found:  # other databases on this server may hold it back for a moment
        async with site.database.connection() as connection:
            found = await change.after(connection, tenant_id=site.tenant_id, cursor=cursor)
    assert [one.kind for one in found] == ["agent"]


@pytest.mark.parametrize("age", [timedelta(0), timedelta(seconds=14)])
async def test_it_is_refused_while_a_replica_lives_and_changes_nothing(site: Site, age: timedelta) -> None:
    async with site.database.connection() as connection:
        await connection.execute("update fleet.replica set seen_at = now() - $1::interval", age)
        before = await connection.fetchval("select register_epoch from fleet.cluster")
    with pytest.raises(ReplicaRuns, match="replica"):
        await take_up(site)
    async with site.database.connection() as connection:
        assert await connection.fetchval("select register_epoch from fleet.cluster") == before


async def test_it_may_be_run_twice(site: Site) -> None:
    first = await take_up(site)
    second = await take_up(site)
    async with site.database.connection() as connection:
        assert await connection.fetchval("select register_epoch from fleet.cluster") == second != first
