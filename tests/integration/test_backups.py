"""Backups: whole or not there, proven before anything is replaced, and what was there comes back when one fails."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import asyncpg
import pytest
from mosaic_controlplane import backups
from mosaic_controlplane.identity.authority_key import AuthorityKeyMissing, AuthorityKeyWrong
from mosaic_controlplane.identity.bootstrap import open_cluster
from mosaic_controlplane.register.backup import RegisterInUse
from mosaic_controlplane.register.backup_folder import BackupDamaged, BackupExists, digest_of
from mosaic_controlplane.register.database import Database
from mosaic_controlplane.register.migrate import RegisterMismatch
from mosaic_controlplane.register.postgres_tools import ToolFails
from mosaic_framework.errors import NotFound
from mosaic_framework.paths import Home


class Site:
    """A home whose settings name a register, in which there is a cluster once it was `opened`."""

    def __init__(self, folder: Path, url: str) -> None:
        self.home, self.url = Home(folder), url
        folder.mkdir(mode=0o700)
        (folder / "controlplane.yaml").write_text(json.dumps({"database_url": url}))

    async def open(self) -> str:
        """Open the cluster as a replica does at its start; returns its trust domain."""
        database = await Database.connect(self.url)
        try:
            return (await open_cluster(database, self.home, alias="site")).trust_domain
        finally:
            await database.close()

    async def value(self, query: str) -> object:
        connection = await asyncpg.connect(self.url)
        try:
            return await connection.fetchval(query)
        finally:
            await connection.close()


@pytest.fixture
async def site(tmp_path: Path, database_url: str) -> Site:
    site = Site(tmp_path / "site", database_url)
    await site.open()
    return site


@pytest.fixture
async def elsewhere(tmp_path: Path, unmigrated_database_url: str) -> Site:
    """Another home, with an empty database."""
    return Site(tmp_path / "elsewhere", unmigrated_database_url)


async def test_a_backup_with_its_key_makes_the_cluster_anew_elsewhere(
    site: Site, elsewhere: Site, tmp_path: Path
) -> None:
    said = await backups.make(site.home, tmp_path / "kept", with_key=True)
    assert "can make certificates" in said[-1]
    await backups.put_back(elsewhere.home, tmp_path / "kept", replace=False, dry_run=False)
    assert await elsewhere.open() == await site.open()
    epoch = "select register_epoch from fleet.cluster"
    assert await elsewhere.value(epoch) != await site.value(epoch)


async def test_nobody_else_can_read_a_backup(site: Site, tmp_path: Path) -> None:
    await backups.make(site.home, tmp_path / "kept", with_key=True)
    for path in (tmp_path / "kept", *(tmp_path / "kept").iterdir()):
        assert not stat.S_IMODE(path.stat().st_mode) & 0o077, path


async def test_a_backup_without_its_key_says_where_the_key_is_and_does_not_go_back_without_it(
    site: Site, elsewhere: Site, tmp_path: Path
) -> None:
    said = await backups.make(site.home, tmp_path / "kept", with_key=False)
    assert str(site.home.pki / "authority.key") in said[-1]
    assert not (tmp_path / "kept" / "authority.key").exists()
    with pytest.raises(AuthorityKeyMissing):
        await backups.put_back(elsewhere.home, tmp_path / "kept", replace=False, dry_run=False)
    assert await elsewhere.value("select to_regnamespace('fleet')") is None


async def test_a_backup_of_another_cluster_is_not_put_under_this_ones_key(site: Site, tmp_path: Path) -> None:
    await backups.make(site.home, tmp_path / "kept", with_key=True)
    file = site.home.pki / "authority.key"
    file.write_text(f"{os.urandom(32).hex()}\n")
    with pytest.raises(AuthorityKeyWrong):
        await backups.put_back(site.home, tmp_path / "kept", replace=True, dry_run=False)


async def test_a_dry_run_says_what_would_be_replaced_and_replaces_nothing(site: Site, tmp_path: Path) -> None:
    await backups.make(site.home, tmp_path / "kept", with_key=False)
    before = await site.value("select register_epoch from fleet.cluster")
    (said,) = await backups.put_back(site.home, tmp_path / "kept", replace=True, dry_run=True)
    assert "replaces cluster site" in said
    assert await site.value("select register_epoch from fleet.cluster") == before


async def test_a_register_with_a_cluster_in_it_is_replaced_only_when_asked(site: Site, tmp_path: Path) -> None:
    await backups.make(site.home, tmp_path / "kept", with_key=False)
    with pytest.raises(RegisterInUse):
        await backups.put_back(site.home, tmp_path / "kept", replace=False, dry_run=False)


async def test_a_backup_goes_only_to_a_place_where_nothing_is(site: Site, tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    with pytest.raises(BackupExists):
        await backups.make(site.home, tmp_path / "kept", with_key=False)


async def test_a_backup_that_fails_leaves_nothing(elsewhere: Site, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no cluster"):
        await backups.make(elsewhere.home, tmp_path / "kept", with_key=False)
    assert not [path for path in tmp_path.iterdir() if "kept" in path.name]


@pytest.mark.parametrize("harm", ["no manifest", "no dump", "a changed dump", "a manifest of rubbish"])
async def test_a_damaged_backup_is_refused_before_anything_is_replaced(site: Site, tmp_path: Path, harm: str) -> None:
    kept = tmp_path / "kept"
    await backups.make(site.home, kept, with_key=False)
    match harm:
        case "no manifest":
            (kept / "backup.json").unlink()
        case "no dump":
            (kept / "register.dump").unlink()
        case "a changed dump":
            with (kept / "register.dump").open("r+b") as file:
                file.seek(2000)
                file.write(b"changed")
        case _:
            (kept / "backup.json").write_text('{"format": "x"}')
    with pytest.raises(BackupDamaged):
        await backups.put_back(site.home, kept, replace=True, dry_run=False)
    assert await site.value("select alias from fleet.cluster") == "site"


async def test_a_restore_that_fails_half_way_leaves_the_register_that_was_there(site: Site, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    await backups.make(site.home, kept, with_key=False)
    dump = kept / "register.dump"
    with dump.open("r+b") as file:
        file.truncate(dump.stat().st_size * 3 // 4)
    manifest = json.loads((kept / "backup.json").read_text())
    (kept / "backup.json").write_text(json.dumps(manifest | {"dump_sha256": digest_of(dump)}))
    await site.value("update fleet.cluster set alias = 'newer'")
    with pytest.raises(ToolFails):
        await backups.put_back(site.home, kept, replace=True, dry_run=False)
    assert await site.value("select alias from fleet.cluster") == "newer"
    assert await site.value("select to_regnamespace('fleet_set_aside')") is None


async def test_a_backup_of_a_newer_program_is_refused(site: Site, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    await backups.make(site.home, kept, with_key=False)
    manifest = json.loads((kept / "backup.json").read_text())
    (kept / "backup.json").write_text(json.dumps(manifest | {"register_version": 9999}))
    with pytest.raises(RegisterMismatch, match="9999"):
        await backups.put_back(site.home, kept, replace=True, dry_run=False)
