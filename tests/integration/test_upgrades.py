"""A rolling upgrade: what only adds is done at once, what takes away when no older replica lives."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import asyncpg
import pytest
from mosaic_controlplane.mesh.links import Links
from mosaic_controlplane.mesh.liveness import Liveness
from mosaic_controlplane.mesh.wakes import Wakes
from mosaic_controlplane.register import migrate as module
from mosaic_controlplane.register import replica
from mosaic_controlplane.register.database import Database
from mosaic_controlplane.register.migrate import Migration, RegisterMismatch, confirm, finish, migrate, migrations
from mosaic_framework.ids import new_id

TODAY = migrations()
NOW = TODAY[-1].version
BEFORE = Migration(NOW + 1, "adds", "alter table fleet.tenant add column motto text", "aa")
AFTER = Migration(NOW + 2, "takes_away", "alter table fleet.tenant drop column paused_reason", "bb", "after")


@pytest.fixture
def release(monkeypatch: pytest.MonkeyPatch) -> None:
    """This program is the next release."""
    monkeypatch.setattr(module, "migrations", lambda: [*TODAY, BEFORE, AFTER])


async def arrive(database: Database, register_version: int, *, seconds_ago: int = 0) -> None:
    async with database.connection() as connection:
        replica_id = new_id()
        await replica.arrive(
            connection, replica_id=replica_id, address="127.0.0.1:1", version="0", register_version=register_version
        )
        await connection.execute(
            "update fleet.replica set seen_at = now() - make_interval(secs => $2) where replica_id = $1",
            replica_id,
            seconds_ago,
        )


async def columns(database: Database) -> set[str]:
    async with database.connection() as connection:
        rows = await connection.fetch(
            "select column_name from information_schema.columns where table_schema = 'fleet' and table_name = 'tenant'"
        )
    return {row["column_name"] for row in rows}


@pytest.mark.usefixtures("release")
async def test_the_first_new_replica_adds_and_leaves_what_an_older_one_needs_until_it_is_gone(
    database: Database,
) -> None:
    await arrive(database, NOW)
    async with database.own() as connection:
        assert await migrate(connection) == [f"{NOW + 1:04}_adds"]
        assert {"motto", "paused_reason"} <= await columns(database)
        await arrive(database, NOW + 2)
        assert not await finish(connection)
        await connection.execute("update fleet.replica set seen_at = now() - interval '2 minutes'")
        assert await finish(connection)
    assert "paused_reason" not in await columns(database)


@pytest.mark.usefixtures("release")
async def test_a_new_register_gets_everything_at_once(unmigrated_database_url: str) -> None:
    connection = await asyncpg.connect(unmigrated_database_url)
    try:
        assert (await migrate(connection))[-2:] == [f"{NOW + 1:04}_adds", f"{NOW + 2:04}_takes_away"]
        assert await finish(connection)
    finally:
        await connection.close()


async def _as_of(known: Sequence[Migration], monkeypatch: pytest.MonkeyPatch, database: Database) -> None:
    with monkeypatch.context() as later:
        later.setattr(module, "migrations", lambda: list(known))
        async with database.own() as connection:
            await migrate(connection)


async def test_an_older_replica_goes_on_and_starts_again_on_a_register_that_was_only_added_to(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _as_of([*TODAY, BEFORE], monkeypatch, database)
    async with database.own() as connection:
        await confirm(connection)
        assert await migrate(connection) == []
        assert await finish(connection)


async def replica_of(database: Database) -> Liveness:
    wakes, replica_id = Wakes(database, new_id()), new_id()
    async with database.connection() as connection:
        await connection.execute(
            "insert into fleet.cluster (trust_domain, alias, register_epoch) values ('t.mosaic', 't', $1)", new_id()
        )
    return Liveness(database, wakes, Links(database, wakes, replica_id), replica_id, "127.0.0.1:1")


@pytest.mark.usefixtures("release")
async def test_a_new_replica_completes_the_upgrade_by_itself_when_the_last_older_one_is_gone(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mosaic_controlplane.mesh.liveness.TICK_SECONDS", 0.02)
    monkeypatch.setattr(module, "newest_version", lambda: NOW + 2)
    await arrive(database, NOW)
    async with database.own() as connection:
        await migrate(connection)
    liveness = await replica_of(database)
    await liveness.arrive()
    running = asyncio.create_task(liveness.run())
    try:
        await asyncio.sleep(1)
        assert "paused_reason" in await columns(database)
        async with database.connection() as connection:
            await connection.execute("delete from fleet.replica where register_version = $1 and version = '0'", NOW)
        async with asyncio.timeout(20):
            while "paused_reason" in await columns(database):
                await asyncio.sleep(0.05)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_replica_that_was_overtaken_while_it_started_serves_nobody(database: Database) -> None:
    liveness = await replica_of(database)
    async with database.connection() as connection:
        await connection.execute("insert into fleet.migration values ($1, 'takes_away', 'bb', now(), 'after')", NOW + 1)
    with pytest.raises(RegisterMismatch, match="this program knows"):
        await liveness.arrive()


async def test_a_replica_that_was_taken_for_dead_while_a_newer_one_completed_the_upgrade_ends(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    liveness = await replica_of(database)
    monkeypatch.setattr("mosaic_controlplane.mesh.liveness.TICK_SECONDS", 0.05)
    await liveness.arrive()
    running = asyncio.create_task(liveness.run())
    async with database.connection() as connection:  # it is stopped for over a minute
        await connection.execute("delete from fleet.replica")
        await connection.execute("insert into fleet.migration values ($1, 'takes_away', 'bb', now(), 'after')", NOW + 1)
    with pytest.raises(RegisterMismatch, match="this program knows"):
        await asyncio.wait_for(running, 15)


async def test_a_replica_enters_the_register_only_when_no_upgrade_is_being_completed(database: Database) -> None:
    async with database.own() as upgrading, database.own() as arriving:
        await upgrading.execute(f"select pg_advisory_lock({module.LOCK_KEY})")
        confirmed = asyncio.ensure_future(confirm(arriving))
        await asyncio.sleep(0.1)
        assert not confirmed.done()
        await upgrading.execute(f"select pg_advisory_unlock({module.LOCK_KEY})")
        await asyncio.wait_for(confirmed, 10)


async def test_a_register_made_before_there_were_phases_is_taken_up(database: Database) -> None:
    async with database.own() as connection:
        await connection.execute("alter table fleet.migration drop column phase")
        assert await migrate(connection) == []
        assert await connection.fetchval("select count(distinct phase) from fleet.migration") == 1
