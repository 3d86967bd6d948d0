"""Brings a database to the schema of this program: numbered files, each applied once, in order, under a lock.

`NNNN_name.sql` is a *before*: it only adds, so that replicas of the release before go on beside it; the first replica
of a release runs it. `NNNN_name.after.sql` is an *after*: it takes away what only older replicas use, and is run when
none of them is live. A release begins once the one before it is complete: a before may build on every earlier after.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

import structlog
from mosaic_framework.errors import FleetError

from mosaic_controlplane.register.database import Connection, check_server

log = structlog.get_logger(__name__)

_FILE = re.compile(r"(?P<version>\d{4})_(?P<name>[a-z0-9_]+)(?P<after>\.after)?\.sql")
# Any constant will do, so long as nothing else in this database takes it: "mosaic" in ASCII.
LOCK_KEY = int.from_bytes(b"mosaic", "big")

_TABLE = """
create table fleet.migration (
  version integer primary key,
  name text not null,
  checksum text not null,
  applied_at timestamptz not null default now(),
  phase text not null default 'before'
)
"""
# A row may be older than phases, and a replica than the column in which it says which register it is made for. One that
# was not heard of for 60 s counts as gone (replica.sql: forget_dead): it looks again before it goes on.
_APPLIED = """
select version, name, checksum, coalesce(to_jsonb(m) ->> 'phase', 'before') as phase
from fleet.migration m order by version
"""
_LACKS_PHASE = """
select to_regclass('fleet.migration') is not null and not exists (select from pg_attribute
  where attrelid = to_regclass('fleet.migration') and attname = 'phase' and not attisdropped)
"""
_OLDER_IS_LIVE = """
select exists (select from fleet.replica r
  where r.seen_at > now() - interval '60 seconds'
    and coalesce((to_jsonb(r) ->> 'register_version')::integer, 0) < $1)
"""


class RegisterMismatch(FleetError):
    """The register and this program do not fit together."""

    code = "register-mismatch"


@dataclass(frozen=True, slots=True)
class Migration:
    """One file of `migrations/`: `checksum` is the SHA-256 of its text, in hex; `phase` is before or after."""

    version: int
    name: str
    text: str
    checksum: str
    phase: str = "before"

    def __str__(self) -> str:
        return f"{self.version:04}_{self.name}"


@dataclass(frozen=True, slots=True)
class Applied:
    """One row of fleet.migration."""

    version: int
    name: str
    checksum: str
    phase: str = "before"


def migrations() -> list[Migration]:
    """Return the program's migrations, oldest first. Raises ValueError on a misnamed file or a number twice."""
    found = []
    for file in resources.files(__package__).joinpath("migrations").iterdir():
        if not file.name.endswith(".sql"):
            continue
        if not (match := _FILE.fullmatch(file.name)):
            raise ValueError(f"{file.name} is no name of a migration: NNNN_name.sql or NNNN_name.after.sql")
        text = file.read_text(encoding="utf-8")
        checksum = hashlib.sha256(text.encode()).hexdigest()
        phase = "after" if match["after"] else "before"
        found.append(Migration(int(match["version"]), match["name"], text, checksum, phase))
    found.sort(key=lambda migration: migration.version)
    # Numbers are given when work begins, so that branches merge: until all are merged there may be gaps.
    versions = [migration.version for migration in found]
    if len(set(versions)) != len(versions):
        raise ValueError("two migrations have one number")
    return found


def newest() -> int:
    """Return the version of the register that this program is made for."""
    return migrations()[-1].version


def pending(known: Sequence[Migration], applied: Sequence[Applied]) -> list[Migration]:
    """Return what of `known` is still to be applied. Both are in order of version.

    A register that a newer program has only added to is taken as it is. Raises RegisterMismatch when a newer program
    has taken something away, or the register was made by other files than this program's.
    """
    by_version = {migration.version: migration for migration in known}
    for row in applied:
        migration = by_version.get(row.version)
        if migration is None:
            _check_unknown(row, known[-1].version)
        elif row.checksum != migration.checksum:
            raise RegisterMismatch(
                f"migration {migration} of the register differs from this program's",
                why=f"applied with checksum {row.checksum[:12]}…, the program has {migration.checksum[:12]}…",
                next_step="run the release that made this register, or restore the register from a backup",
            )
    there = {row.version for row in applied}
    todo = [migration for migration in known if migration.version not in there]
    for migration in todo:
        if migration.phase == "before" and applied and migration.version < applied[-1].version:
            raise RegisterMismatch(
                f"the register lacks migration {migration}",
                why=f"its table fleet.migration goes on with version {applied[-1].version}",
                next_step="restore the register from a backup",
            )
    return todo


def _check_unknown(row: Applied, newest_known: int) -> None:
    """Raise RegisterMismatch unless this migration, which the program does not know, leaves all that it needs."""
    if row.version <= newest_known:
        raise RegisterMismatch(
            f"the register has migration {row.version:04}_{row.name}, which this program does not know",
            why=f"the program is made for version {newest_known}",
            next_step="run the release that made this register, or restore the register from a backup",
        )
    if row.phase == "after":
        raise RegisterMismatch(
            f"the register is at version {row.version}, this program knows {newest_known}",
            why=f"a newer mosaic-controlplane has completed its upgrade ({row.version:04}_{row.name})",
            next_step="update this mosaic-controlplane",
        )


async def migrate(connection: Connection) -> list[str]:
    """Apply what is missing, each migration in a transaction of its own, and return the names of those applied now.

    An *after* waits while an older replica is live (`finish` applies it then). Takes a session-level advisory lock, so
    `connection` must not be one of a pool that is shared (use `dedicated`). Replicas that start together wait for one
    another. Raises RegisterMismatch and RegisterTooOld.
    """
    check_server(connection)
    # No timeout: a replica that starts while another one migrates waits for as long as that takes.
    await connection.execute(f"select pg_advisory_lock({LOCK_KEY})", timeout=float("inf"))
    return await _apply_pending(connection)


async def finish(connection: Connection) -> bool:
    """Apply the *afters* that are missing, unless an older replica is live or another replica is at it.

    Returns whether nothing is left to apply. `connection` as for `migrate`. Raises RegisterMismatch.
    """
    if not await connection.fetchval(f"select pg_try_advisory_lock({LOCK_KEY})"):
        return False
    await _apply_pending(connection)
    return not pending(migrations(), await _applied(connection))


async def confirm(connection: Connection) -> None:
    """Make sure, once this replica is entered in the register, that no newer one has completed its upgrade without it.

    Raises RegisterMismatch.
    """
    async with connection.transaction():
        await connection.execute(f"select pg_advisory_xact_lock_shared({LOCK_KEY})", timeout=float("inf"))
        pending(migrations(), await _applied(connection))


async def _apply_pending(connection: Connection) -> list[str]:
    """Apply under the lock, which is given back."""
    done = []
    try:
        if await connection.fetchval(_LACKS_PHASE):
            await connection.execute("alter table fleet.migration add column phase text not null default 'before'")
        for migration in pending(migrations(), await _applied(connection)):
            if migration.phase == "after" and await connection.fetchval(_OLDER_IS_LIVE, migration.version):
                log.info("a migration waits: an older replica is live", name=str(migration))
                continue
            await _apply(connection, migration)
            log.info("migration applied", version=migration.version, name=migration.name)
            done.append(str(migration))
    finally:
        # When the connection is gone its lock is gone too.
        if not connection.is_closed():
            await connection.execute(f"select pg_advisory_unlock({LOCK_KEY})")
    return done


async def _applied(connection: Connection) -> list[Applied]:
    if await connection.fetchval("select to_regclass('fleet.migration')") is None:
        if await connection.fetchval("select to_regnamespace('fleet')") is not None:
            raise RegisterMismatch(
                "the database has a schema 'fleet' that no mosaic-controlplane made",
                why="there is no table fleet.migration in it",
                next_step="name a database of its own in MOSAIC_DATABASE_URL",
            )
        return []
    return [Applied(**row) for row in await connection.fetch(_APPLIED)]


async def _apply(connection: Connection, migration: Migration) -> None:
    async with connection.transaction():
        await connection.execute(migration.text, timeout=float("inf"))
        if migration.version == 1:
            await connection.execute(_TABLE)  # here, because the first migration makes the schema it lives in
        await connection.execute(
            "insert into fleet.migration (version, name, checksum, phase) values ($1, $2, $3, $4)",
            migration.version,
            migration.name,
            migration.checksum,
            migration.phase,
        )
