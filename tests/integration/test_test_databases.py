"""The tests' own PostgreSQL: fresh and migrated for each test, and quick."""

from __future__ import annotations

import time

from mosaic_controlplane.register.database import Database

from tests.support.postgres import Databases


async def test_a_test_gets_a_migrated_and_empty_register(database: Database) -> None:
    async with database.transaction() as connection:
        assert await connection.fetchval("select count(*) from fleet.migration") > 0
        assert await connection.fetchval("select count(*) from fleet.tenant") == 0
        await connection.execute("insert into fleet.tenant (tenant_id, name) values (gen_random_uuid(), 'left over')")


async def test_what_a_test_wrote_is_not_seen_by_the_next(database: Database) -> None:
    async with database.connection() as connection:
        assert await connection.fetchval("select count(*) from fleet.tenant") == 0


def test_a_fresh_database_costs_little(databases: Databases) -> None:
    took = []
    for _ in range(5):
        started = time.perf_counter()
        url = databases.create()
        took.append(time.perf_counter() - started)
        databases.drop(url)
    assert sorted(took)[2] < 0.25  # 75 ms on an idle machine; the limit leaves room for a busy one
