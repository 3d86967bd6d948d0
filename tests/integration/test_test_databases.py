"""The tests' own PostgreSQL: fresh and migrated for each test."""

from __future__ import annotations

from mosaic_controlplane.register.database import Database


async def test_a_test_gets_a_migrated_and_empty_register(database: Database) -> None:
    async with database.transaction() as connection:
        assert await connection.fetchval("select count(*) from fleet.migration") > 0
        assert await connection.fetchval("select count(*) from fleet.tenant") == 0
        await connection.execute("insert into fleet.tenant (tenant_id, name) values (gen_random_uuid(), 'left over')")


async def test_what_a_test_wrote_is_not_seen_by_the_next(database: Database) -> None:
    async with database.connection() as connection:
        assert await connection.fetchval("select count(*) from fleet.tenant") == 0
