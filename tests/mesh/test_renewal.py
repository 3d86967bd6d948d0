"""Certificates of a few seconds are renewed under way: links, watches and commands go on past the end of each."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from mosaic_framework.identity_files import StoredIdentity
from mosaic_framework.paths import Home

from tests.support.mesh import Mesh, running_mesh
from tests.support.program import eventually

LIFE = 8


@pytest.fixture
async def brief(database_url: str) -> AsyncIterator[Mesh]:
    """A mesh whose certificates last for seconds, the control plane's own too."""
    async with running_mesh(database_url, environment={"MOSAIC_LEAF_LIFETIME": str(LIFE)}) as mesh:
        yield mesh


def command(home: Path, *arguments: str) -> subprocess.Popen[str]:
    """Run `mosaic` as a person does."""
    return subprocess.Popen(
        [sys.executable, "-m", "mosaic_cli.main", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "MOSAIC_HOME": str(home)},
    )


async def test_a_link_and_a_watch_outlive_two_certificates_and_neither_is_dropped(brief: Mesh, tmp_path: Path) -> None:
    mesh = brief
    home = Home(tmp_path / "person")
    home.root.mkdir()
    mesh.write_context(home)
    host = await mesh.join("alpha")
    epoch = (await mesh.host_row("alpha")).link_epoch
    first_host = StoredIdentity.load(host.pki)
    first_person = StoredIdentity.load(mesh.folder / "operator")
    watch = command(home.root, "fleet", "watch", "-o", "json")
    try:
        ends = first_host.not_after.timestamp() + LIFE / 2 + 1
        await eventually(lambda: datetime.now(UTC).timestamp() > ends, "two certificates have ended")
        for folder, first in ((host.pki, first_host), (mesh.folder / "operator", first_person)):
            now = StoredIdentity.load(folder)
            assert not now.expired()
            assert now.key_pem != first.key_pem, "each has a key of its own"
            assert (now.identity_id, now.identity_epoch) == (first.identity_id, first.identity_epoch)
        assert watch.poll() is None, watch.communicate()[1]
        done = command(home.root, "host", "ls", "-o", "json")
        listed = json.loads((await asyncio.to_thread(done.communicate))[0])
        assert [(row["name"], row["state"], row["linkEpoch"]) for row in listed["items"]] == [("alpha", "live", epoch)]
    finally:
        watch.terminate()
        told = watch.communicate()[1]
    assert told == "", "the watch lost nothing, and said nothing"
    log = host.program.log.read_text()
    assert "link down" not in log
    assert "could not be" not in log
