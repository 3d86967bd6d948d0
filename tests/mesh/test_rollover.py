"""From one root to the next: nobody joins again, nothing open is dropped, each step waits until it is safe."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography import x509
from mosaic_framework import enrolment, pki
from mosaic_framework.enrolment import JoinToken
from mosaic_framework.identity_files import StoredIdentity
from mosaic_framework.paths import Home

from tests.mesh.test_renewal import command
from tests.support.mesh import Mesh, running_mesh
from tests.support.program import eventually

LIFE = 8


@pytest.fixture
async def brief(database_url: str) -> AsyncIterator[Mesh]:
    async with running_mesh(database_url, environment={"MOSAIC_LEAF_LIFETIME": str(LIFE)}) as mesh:
        yield mesh


async def authority(mesh: Mesh, *words: str) -> subprocess.CompletedProcess[str]:
    """Run `mosaic-controlplane authority` where the control plane runs."""
    return await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "mosaic_controlplane.main", "authority", *words],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **mesh.controlplane.environment, "MOSAIC_HOME": str(mesh.controlplane.home)},
    )


async def until_done(mesh: Mesh, step: str) -> None:
    """Repeat a step, as it says, until what still hangs on the old root has gone."""
    async with asyncio.timeout(60):
        while (done := await authority(mesh, step)).returncode:
            assert "rollover-too-early" in done.stderr, done.stderr
            await asyncio.sleep(0.5)


def roots_of(identity: StoredIdentity) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(identity.bundle_pem)


async def test_roots_change_under_a_link_and_a_watch_that_never_drop(brief: Mesh, tmp_path: Path) -> None:
    mesh = brief
    home = Home(tmp_path / "person")
    home.root.mkdir()
    mesh.write_context(home)
    host = await mesh.join("alpha")
    epoch = (await mesh.host_row("alpha")).link_epoch
    (old,) = roots_of(StoredIdentity.load(host.pki))
    watch = command(home.root, "fleet", "watch", "-o", "json")
    try:
        assert (await authority(mesh, "add")).returncode == 0
        await eventually(lambda: len(roots_of(StoredIdentity.load(host.pki))) == 2, "the host is told", host.program)
        early = await authority(mesh, "retire")
        assert early.returncode == 3, "no root is old yet"
        made = command(home.root, "host", "token", "beta")  # renews itself, should this have taken long
        joiner = JoinToken.parse((await asyncio.to_thread(made.communicate))[0])
        await until_done(mesh, "use")
        await asyncio.to_thread(enrolment.enrol, joiner, tmp_path / "beta")  # by the new root, with a token of before
        await until_done(mesh, "retire")
        (new,) = [root for root in roots_of(StoredIdentity.load(host.pki)) if root != old]
        await eventually(lambda: roots_of(StoredIdentity.load(host.pki)) == [new], "the old one is gone", host.program)
        for folder in (host.pki, mesh.folder / "operator"):
            leaf = x509.load_pem_x509_certificate(StoredIdentity.load(folder).certificate_pem)
            assert pki.issuer_among(leaf, [new]) is not None
        assert watch.poll() is None, watch.communicate()[1]
        done = command(home.root, "host", "ls", "-o", "name")
        assert "alpha" in (await asyncio.to_thread(done.communicate))[0]
    finally:
        watch.terminate()
        told = watch.communicate()[1]
    assert told == ""
    assert "link down" not in host.program.log.read_text()
    assert await mesh.register_value("select link_epoch from fleet.host where name = 'alpha'") == epoch
    assert (await authority(mesh, "ls")).stdout.count("signs") == 1
