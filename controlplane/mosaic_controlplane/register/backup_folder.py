"""A backup as it lies on disk: a folder with the register's dump, what it is of, and perhaps the authority's key."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from uuid import UUID

from mosaic_framework.errors import Conflict, FleetError
from mosaic_framework.paths import private_folder, write_private
from pydantic import BaseModel, ConfigDict, ValidationError

DUMP = "register.dump"
MANIFEST = "backup.json"
KEY = "authority.key"
_FORMAT = 1


class BackupDamaged(FleetError):
    """This is no backup, or a part of it is missing or changed."""

    code = "backup-damaged"
    hint = "use another backup"


class BackupExists(Conflict):
    """There is something at the place of the new backup."""

    code = "backup-exists"
    hint = "name a folder that does not exist yet"


class Manifest(BaseModel):
    """What a backup is of. Times are aware UTC; digests are SHA-256 in hex."""

    model_config = ConfigDict(frozen=True)

    format: int = _FORMAT
    made_at: datetime
    """by the database's clock"""
    trust_domain: str
    cluster: str
    register_epoch: UUID
    register_version: int
    """the newest migration that the register has had"""
    postgres: int
    """the major version of its server"""
    program: str
    """the version of mosaic-controlplane"""
    dump_sha256: str
    dump_bytes: int
    authority_key_sha256: str = ""
    """which key file the authority is encrypted under; empty when there was none on the machine that made the backup"""
    has_authority_key: bool = False


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Lend a private folder that becomes `target` at the end, whole, or is removed. Raises BackupExists."""
    if target.exists() or target.is_symlink():
        raise BackupExists(f"{target} exists already")
    staging = target.with_name(f".{target.name}.new")
    shutil.rmtree(staging, ignore_errors=True)  # of a run that was killed
    private_folder(staging)
    try:
        yield staging
        staging.rename(target)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    _sync(target.parent)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the last file of a backup, after the dump is on disk."""
    _sync(folder / DUMP)
    write_private(folder / MANIFEST, manifest.model_dump_json(indent=2).encode() + b"\n")


def read_manifest(folder: Path) -> Manifest:
    """Return what a backup is of, its dump proven to be the one that was written. Raises BackupDamaged."""
    path = folder / MANIFEST
    try:
        manifest = Manifest.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise BackupDamaged(f"{folder} is no backup", why=f"there is no {MANIFEST} in it") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BackupDamaged(f"{path} is damaged", why=f"{where}: {first['msg'].lower()}") from error
    if manifest.format != _FORMAT:
        raise BackupDamaged(
            f"{folder} is of a newer mosaic", why=f"its format is {manifest.format}", next_step="update mosaic here"
        )
    try:
        digest = digest_of(folder / DUMP)
    except FileNotFoundError:
        raise BackupDamaged(f"{folder} is not whole", why=f"there is no {DUMP} in it") from None
    if digest != manifest.dump_sha256:
        raise BackupDamaged(f"{folder / DUMP} is damaged", why="its SHA-256 is not the one that was written down")
    return manifest


def digest_of(file: Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
