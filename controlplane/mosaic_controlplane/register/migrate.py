"""Brings a database to the schema of this program: numbered files, each applied once, in order, under a lock."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

import structlog
from mosaic_framework.errors import FleetError

from mosaic_controlplane.register.database import Connection, check_server

log = structlog.get_logger(__name__)

_FILE = re.compile(r"(?P<version>\d{4})_(?P<name>[a-z0-9_]+)\.sql")
# Any constant will do, so long as nothing else in this database takes it: "mosaic" in ASCII.
LOCK_KEY = int.from_bytes(b"mosaic", "big")

_TABLE = """
create table fleet.migration (
  version integer primary key,
  name text not null,
  checksum text not null,
  applied_at timestamptz not null default now()
)
"""


class RegisterMismatch(FleetError):
    """The register and this program do not fit together."""

    code = "register-mismatch"


@dataclass(frozen=True, slots=True)
class Migration:
    """One file of `migrations/`: `checksum` is the SHA-256 of its text, in hex."""

    version: int
    name: str
    text: str
    checksum: str


@dataclass(frozen=True, slots=True)
class Applied:
    """One row of fleet.migration."""

    version: int
    name: str
    checksum: str


def migrations() -> list[Migration]:
    """Return the program's migrations, oldest first. Raises ValueError on a misnamed file or a number twice."""
    found = []
    for file in resources.files(__package__).joinpath("migrations").iterdir():
        if not file.name.endswith(".sql"):
            continue
        if not (match := _FILE.fullmatch(file.name)):
            raise ValueError(f"{file.name} is no name of a migration: NNNN_name.sql")
        text = file.read_text(encoding="utf-8")
        checksum = hashlib.sha256(text.encode()).hexdigest()
        found.append(Migration(int(match["version"]), match["name"], text, checksum))
    found.sort(key=lambda migration: migration.version)
    # Numbers are given when work begins, so that branches merge: until all are merged there may be gaps.
    versions = [migration.version for migration in found]
    if len(set(versions)) != len(versions):
        raise ValueError("two migrations have one number")
    return found


@cache
def newest_version() -> int:
    """Return the version of the newest migration that this program brings."""
    return migrations()[-1].version


def pending(known: Sequence[Migration], applied: Sequence[Applied]) -> list[Migration]:
    """Return what of `known` is still to be applied. Both are in order of version.

    Raises RegisterMismatch when the register is newer than the program, or was made by other files than the program's.
    """
    if applied and applied[-1].version > known[-1].version:
        raise RegisterMismatch(
            f"the register is at version {applied[-1].version}, this program knows {known[-1].version}",
            why="a newer mosaic-controlplane has migrated it",
            next_step="update this mosaic-controlplane",
        )
    for row, migration in zip(applied, known, strict=False):
        if row.version != migration.version:
            raise RegisterMismatch(
                f"the register lacks migration {migration.version:04}_{migration.name}",
                why=f"its table fleet.migration goes on with version {row.version}",
                next_step="restore the register from a backup",
            )
        if row.checksum != migration.checksum:
            raise RegisterMismatch(
                f"migration {row.version:04}_{row.name} of the register differs from this program's",
                why=f"applied with checksum {row.checksum[:12]}…, the program has {migration.checksum[:12]}…",
                next_step="run the release that made this register, or restore the register from a backup",
            )
    return list(known[len(applied) :])


async def migrate(connection: Connection) -> list[str]:
    """Apply what is missing, each migration in a transaction of its own, and return the names of those applied now.

    Takes a session-level advisory lock, so `connection` must not be one of a pool that is shared (use `dedicated`).
    Replicas that start together wait for one another. Raises RegisterMismatch and RegisterTooOld.
    """
    check_server(connection)
    # No timeout: a replica that starts while another one migrates waits for as long as that takes.
    await connection.execute(f"select pg_advisory_lock({LOCK_KEY})", timeout=float("inf"))
    try:
        todo = pending(migrations(), await _applied(connection))
        for migration in todo:
            await _apply(connection, migration)
            log.info("migration applied", version=migration.version, name=migration.name)
        return [f"{migration.version:04}_{migration.name}" for migration in todo]
    finally:
        # When the connection is gone its lock is gone too.
        if not connection.is_closed():
            await connection.execute(f"select pg_advisory_unlock({LOCK_KEY})")


async def _applied(connection: Connection) -> list[Applied]:
    if await connection.fetchval("select to_regclass('fleet.migration')") is None:
        if await connection.fetchval("select to_regnamespace('fleet')") is not None:
            raise RegisterMismatch(
                "the database has a schema 'fleet' that no mosaic-controlplane made",
                why="there is no table fleet.migration in it",
                next_step="name a database of its own in MOSAIC_DATABASE_URL",
            )
        return []
    rows = await connection.fetch("select version, name, checksum from fleet.migration order by version")
    return [Applied(row["version"], row["name"], row["checksum"]) for row in rows]


async def _apply(connection: Connection, migration: Migration) -> None:
    async with connection.transaction():
        await connection.execute(migration.text, timeout=float("inf"))
        if migration.version == 1:
            await connection.execute(_TABLE)  # here, because the first migration makes the schema it lives in
        await connection.execute(
            "insert into fleet.migration (version, name, checksum) values ($1, $2, $3)",
            migration.version,
            migration.name,
            migration.checksum,
        )
