"""`mosaic-controlplane backup` and `restore`: the register, and the key file that opens its authority."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

from mosaic_framework import __version__
from mosaic_framework.ids import new_id
from mosaic_framework.paths import Home, write_private

from mosaic_controlplane import config
from mosaic_controlplane.identity import authority_key
from mosaic_controlplane.register import audit, backup, embedded, restore
from mosaic_controlplane.register.backup_folder import (
    DUMP,
    KEY,
    BackupDamaged,
    Manifest,
    digest_of,
    new_folder,
    read_manifest,
    write_manifest,
)
from mosaic_controlplane.register.database import Database
from mosaic_controlplane.register.embedded import DatabaseAlreadyRunning
from mosaic_controlplane.register.migrate import migrate


@contextlib.asynccontextmanager
async def register_of(home: Home) -> AsyncIterator[Database]:
    """Lend a home's register: the one its settings name, else the embedded one, run meanwhile where nobody runs it."""
    with contextlib.ExitStack() as stack:
        url = config.load(home).database_url
        if not url:
            try:
                url = stack.enter_context(embedded.lent(home))
            except DatabaseAlreadyRunning:
                url = embedded.running_url(home)
        database = await Database.connect(url, pool_size=2)
        try:
            yield database
        finally:
            await database.close()


async def make(home: Home, folder: Path, *, with_key: bool) -> list[str]:
    """Back the register of `home` up into a new `folder`, while it is used; returns what to tell.

    Raises BackupExists, NotFound, ToolsMissing, ToolFails, AuthorityKeyMissing (`with_key`, and there is none).
    """
    key_file = home.pki / authority_key.FILE
    key = authority_key.AuthorityKeyFile.read(key_file)
    if key is None and with_key:
        raise authority_key.missing(key_file)
    with new_folder(folder) as staging:
        async with register_of(home) as database:
            found = await backup.dump(database, staging)
        manifest = Manifest(
            made_at=found.at,
            trust_domain=found.trust_domain,
            cluster=found.alias,
            register_epoch=found.register_epoch,
            register_version=found.version,
            postgres=found.postgres,
            program=__version__,
            dump_sha256=digest_of(staging / DUMP),
            dump_bytes=(staging / DUMP).stat().st_size,
            authority_key_sha256=key.digest if key is not None else "",
            has_authority_key=with_key,
        )
        if with_key:
            write_private(staging / KEY, key_file.read_bytes())
        write_manifest(staging, manifest)
    lines = [f"cluster {found.alias} ({found.trust_domain}): {manifest.dump_bytes:,} bytes in {folder}"]
    if with_key:
        lines.append("the authority's key is in it: whoever has this folder can make certificates of this cluster")
    elif key is None:
        lines.append(f"there is no {key_file} here: keep a copy of another replica's with this backup")
    else:
        lines.append(f"keep a copy of {key_file} elsewhere: neither is of use without the other")
    return lines


async def put_back(home: Home, folder: Path, *, replace: bool, dry_run: bool) -> list[str]:
    """Make a backup the register of `home`; returns what to tell. No replica may run.

    Raises BackupDamaged, AuthorityKeyMissing, AuthorityKeyWrong, RegisterInUse, ReplicaRuns, RegisterMismatch,
    ToolFails.
    """
    manifest = read_manifest(folder)
    key_here = _check_key(home, folder, manifest)
    of = f"cluster {manifest.cluster} ({manifest.trust_domain}) as of {manifest.made_at:%Y-%m-%d %H:%M:%S} UTC"
    async with register_of(home) as database:
        if dry_run:
            async with database.connection() as connection:
                was = await backup.check_free(connection, register_version=manifest.register_version, replace=replace)
            there = f"replaces cluster {was.alias} ({was.trust_domain})" if was else "the register is empty"
            return [f"would restore {of}; {there}"]
        if not key_here and manifest.has_authority_key:
            write_private(home.pki / authority_key.FILE, (folder / KEY).read_bytes())
        done = await backup.put_back(
            database,
            folder,
            register_version=manifest.register_version,
            register_epoch=new_id(),
            replace=replace,
            caller_id=str(os.getuid()),
        )
    return [f"restored {of}", f"register epoch {done.register_epoch}", done.told]


async def migrate_whole(database: Database) -> None:
    """Bring a register up to date. Raises what migrations raise, and RestoreUnfinished for one restored by half."""
    connection = await database.dedicated()
    try:
        await backup.check_whole(connection)
        await migrate(connection)
    finally:
        await connection.close()


async def take_up(home: Home) -> restore.Restored:
    """Take up a register that was restored from a backup. Raises ReplicaRuns while a replica runs on it."""
    async with register_of(home) as database:
        await migrate_whole(database)
        async with database.transaction() as connection:
            done = await restore.take_up(connection, register_epoch=new_id())
            await audit.record(
                connection,
                tenant_id=None,
                caller_kind="local",
                caller_id=str(os.getuid()),
                caller_name="restored",
                peer_address="",
                method="restored",
                target=str(done.register_epoch),
            )
    return done


def _check_key(home: Home, folder: Path, manifest: Manifest) -> bool:
    """Say whether this home has the key file of the backup's authority; raise where nobody has it."""
    path = home.pki / authority_key.FILE
    here = authority_key.AuthorityKeyFile.read(path)
    if here is not None:
        if manifest.authority_key_sha256 not in ("", here.digest):
            raise authority_key.wrong(path, "the backup's authority was encrypted under another one")
        return True
    if not manifest.has_authority_key:
        raise authority_key.missing(path)
    kept = authority_key.AuthorityKeyFile.read(folder / KEY)
    if kept is None or kept.digest != manifest.authority_key_sha256:
        raise BackupDamaged(f"{folder / KEY} is damaged", why="it is not the key file that was written down")
    return False
