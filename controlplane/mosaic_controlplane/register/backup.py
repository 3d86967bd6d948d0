"""A backup of the register, made and put back by PostgreSQL's own tools.

What is put back takes the place of what is there in one step: until all of it is done the register that was there is
kept as the schema `fleet_set_aside`, which also tells a replica that it must not start.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from uuid import UUID

from mosaic_framework.errors import Conflict, NotFound

from mosaic_controlplane.register import audit, restore
from mosaic_controlplane.register.backup_folder import DUMP
from mosaic_controlplane.register.database import Connection, Database, shown
from mosaic_controlplane.register.migrate import LOCK_KEY, RegisterMismatch, migrate, newest_version
from mosaic_controlplane.register.postgres_tools import run_tool, tools_for
from mosaic_controlplane.register.restore import Restored
from mosaic_controlplane.register.sql import load

SQL = load("backup")
SET_ASIDE = "fleet_set_aside"
_FOREVER = float("inf")


class RegisterInUse(Conflict):
    """There is a cluster in this register already."""

    code = "register-in-use"
    hint = "restore with --replace, or name another database in MOSAIC_DATABASE_URL"


class RestoreUnfinished(Conflict):
    """A restore into this register was begun and not finished."""

    code = "restore-unfinished"
    hint = "run the restore again: mosaic-controlplane restore FOLDER --replace"


@dataclass(frozen=True, slots=True)
class Facts:
    """What a register is. `version`: its newest migration; `postgres`: the major version of its server."""

    trust_domain: str
    alias: str
    register_epoch: UUID
    version: int
    at: datetime
    postgres: int


async def facts(connection: Connection) -> Facts | None:
    """Return what this register is; None while there is no cluster in it."""
    if await connection.fetchval("select to_regclass('fleet.migration')") is None:
        return None
    row = await connection.fetchrow(SQL.facts)
    return Facts(**row, postgres=connection.get_server_version().major) if row else None


async def dump(database: Database, folder: Path) -> Facts:
    """Write the register as it is now into `folder`, while it is used. Raises NotFound, ToolsMissing, ToolFails."""
    async with database.connection() as connection:
        await check_whole(connection)
        found = await facts(connection)
    if found is None:
        raise NotFound(
            f"there is no cluster in the register at {shown(database.url)}",
            why="no control plane has ever started on it",
            next_step="check MOSAIC_DATABASE_URL",
        )
    options = ["--format=custom", "--schema=fleet", "--no-owner", "--no-privileges", "--no-password"]
    await run_tool(tools_for(found.postgres), "pg_dump", [*options, f"--file={folder / DUMP}"], url=database.url)
    (folder / DUMP).chmod(0o600)
    return found


async def check_whole(connection: Connection) -> None:
    """Raise RestoreUnfinished where a restore was cut short: what is there is neither the old nor the new register."""
    if await connection.fetchval("select to_regnamespace($1::text)", SET_ASIDE) is not None:
        raise RestoreUnfinished(why="it was killed, or lost its connection, before it was done")


async def check_free(connection: Connection, *, register_version: int, replace: bool) -> Facts | None:
    """Say what a restore would replace; None: nothing. Raises RegisterMismatch, ReplicaRuns or RegisterInUse."""
    known = newest_version()
    if register_version > known:
        raise RegisterMismatch(
            f"the backup is of version {register_version}, this program knows {known}",
            why="a newer mosaic-controlplane has made it",
            next_step="update this mosaic-controlplane",
        )
    found = await facts(connection)
    if found is None:
        return None
    await restore.check_no_replica(connection)
    if not replace and await connection.fetchval("select to_regnamespace($1::text)", SET_ASIDE) is None:
        raise RegisterInUse(why=f"cluster {found.alias!r} ({found.trust_domain}) is in it")
    return found


async def put_back(
    database: Database, folder: Path, *, register_version: int, register_epoch: UUID, replace: bool, caller_id: str
) -> Restored:
    """Make a backup's dump the register, and take it up as restored.

    Whatever fails, the register that was there is there again. Replicas that start meanwhile wait.
    Raises what `check_free` raises, ToolsMissing, ToolFails.
    """
    connection = await database.dedicated(idle_in_transaction_session_timeout="0")
    try:
        async with _locked(connection):
            await check_free(connection, register_version=register_version, replace=replace)
            await _set_aside(connection)
            try:
                tools = tools_for(connection.get_server_version().major)
                options = ["--single-transaction", "--exit-on-error", "--no-owner", "--no-privileges", "--no-password"]
                await run_tool(tools, "pg_restore", [*options, str(folder / DUMP)], url=database.url)
                await migrate(connection)
                await connection.execute("analyze", timeout=_FOREVER)  # plans made without statistics would stay
                async with connection.transaction():
                    await connection.execute(restore.SQL.forget_replicas)  # none runs: see check_free
                    done = await restore.take_up(connection, register_epoch=register_epoch)
                    await audit.record(
                        connection,
                        tenant_id=None,
                        caller_kind="local",
                        caller_id=caller_id,
                        caller_name="restore",
                        peer_address="",
                        method="restore",
                        target=str(register_epoch),
                    )
                    await connection.execute(f"drop schema {SET_ASIDE} cascade", timeout=_FOREVER)
            except BaseException:
                await _take_back(connection)
                raise
            return done
    finally:
        await connection.close()


@asynccontextmanager
async def _locked(connection: Connection) -> AsyncIterator[None]:
    """Hold the lock under which replicas migrate at their start."""
    await connection.execute(f"select pg_advisory_lock({LOCK_KEY})", timeout=_FOREVER)
    try:
        yield
    finally:
        if not connection.is_closed():  # else it went with the connection
            await connection.execute(f"select pg_advisory_unlock({LOCK_KEY})")


async def _set_aside(connection: Connection) -> None:
    """Put the register that is there aside; after a restore that was killed, what that one had made goes."""
    async with connection.transaction():
        if await connection.fetchval("select to_regnamespace($1::text)", SET_ASIDE) is not None:
            await connection.execute("drop schema if exists fleet cascade", timeout=_FOREVER)
        elif await connection.fetchval("select to_regnamespace('fleet')") is not None:
            await connection.execute(f"alter schema fleet rename to {SET_ASIDE}")
        else:
            await connection.execute(f"create schema {SET_ASIDE}")


async def _take_back(connection: Connection) -> None:
    """Put back what was set aside. An empty one stood for: there was nothing."""
    if connection.is_closed():
        return  # the next start says so: RestoreUnfinished
    async with connection.transaction():
        await connection.execute("drop schema if exists fleet cascade", timeout=_FOREVER)
        if await connection.fetchval("select to_regclass($1::text)", f"{SET_ASIDE}.migration") is None:
            await connection.execute(f"drop schema {SET_ASIDE} cascade")
        else:
            await connection.execute(f"alter schema {SET_ASIDE} rename to fleet")
