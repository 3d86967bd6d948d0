"""Migrating makes exactly schema.sql, once, whoever else migrates at the same time."""

from __future__ import annotations

import asyncio
import subprocess
from importlib import resources

import asyncpg
import pytest
from mosaic_controlplane.register.migrate import RegisterMismatch, migrate, migrations
from mosaic_controlplane.register.postgres_binaries import wheel_binaries


def dump(url: str) -> str:
    """Return the definition of schema `fleet` as pg_dump writes it, without the migrations' own table."""
    command = [str(wheel_binaries() / "pg_dump"), "--schema-only", "--schema=fleet", "--no-owner"]
    done = subprocess.run(
        [*command, "--exclude-table=fleet.migration", f"--dbname={url}"], capture_output=True, text=True, check=True
    )
    # \restrict carries a random word.
    return "\n".join(line for line in done.stdout.splitlines() if not line.startswith(("\\", "--")) and line)


async def run_schema(url: str, *more: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        schema = resources.files("mosaic_controlplane.register").joinpath("schema.sql").read_text(encoding="utf-8")
        for statement in (schema, *more):
            await connection.execute(statement)
    finally:
        await connection.close()


async def test_a_migrated_register_equals_schema_sql(database_url: str, unmigrated_database_url: str) -> None:
    await run_schema(unmigrated_database_url)
    assert dump(database_url) == dump(unmigrated_database_url)


@pytest.mark.parametrize(
    "drift",
    [
        "alter table fleet.host alter column state drop default",
        "drop index fleet.message_newest",
        "drop trigger agent_added on fleet.agent",
        "alter table fleet.host reset (fillfactor)",
        "alter table fleet.operator drop constraint operator_role_check",
    ],
)
async def test_a_drift_between_them_would_be_seen(database_url: str, unmigrated_database_url: str, drift: str) -> None:
    await run_schema(unmigrated_database_url, drift)
    assert dump(database_url) != dump(unmigrated_database_url)


async def test_a_second_migration_does_nothing(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        assert await migrate(connection) == []
    finally:
        await connection.close()


async def test_replicas_that_start_together_migrate_once(unmigrated_database_url: str) -> None:
    connections = [await asyncpg.connect(unmigrated_database_url) for _ in range(4)]
    try:
        done = await asyncio.gather(*(migrate(connection) for connection in connections))
        everything = [f"{migration.version:04}_{migration.name}" for migration in migrations()]
        assert sorted(map(len, done)) == [0, 0, 0, len(everything)]
        assert everything in done
        rows = await connections[0].fetch("select name, checksum from fleet.migration order by version")
        assert [tuple(row) for row in rows] == [(one.name, one.checksum) for one in migrations()]
    finally:
        for connection in connections:
            await connection.close()


async def test_a_changed_checksum_in_the_register_is_refused_and_the_lock_given_back(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute("update fleet.migration set checksum = 'edited' where version = 1")
        with pytest.raises(RegisterMismatch):
            await migrate(connection)
        held = "select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()"
        assert await connection.fetchval(held) == 0
    finally:
        await connection.close()


async def test_a_migration_that_fails_leaves_nothing_of_itself(
    unmigrated_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mosaic_controlplane.register import migrate as module

    broken = module.Migration(migrations()[-1].version + 1, "broken", "create table fleet.half (); select 1 / 0;", "00")
    known = [*migrations(), broken]
    monkeypatch.setattr(module, "migrations", lambda: known)
    connection = await asyncpg.connect(unmigrated_database_url)
    try:
        with pytest.raises(asyncpg.DivisionByZeroError):
            await migrate(connection)
        assert await connection.fetchval("select to_regclass('fleet.half')") is None
        assert await connection.fetchval("select max(version) from fleet.migration") == known[-2].version
    finally:
        await connection.close()


async def test_a_schema_of_that_name_made_by_others_is_refused_and_left_alone(unmigrated_database_url: str) -> None:
    connection = await asyncpg.connect(unmigrated_database_url)
    try:
        await connection.execute("create schema fleet; create table fleet.trucks ()")
        with pytest.raises(RegisterMismatch, match="no mosaic-controlplane made"):
            await migrate(connection)
        assert await connection.fetchval("select count(*) from pg_tables where schemaname = 'fleet'") == 1
    finally:
        await connection.close()
