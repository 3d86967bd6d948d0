"""Both implementations of supervision, each on the real thing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from mosaic_framework.catalog import Catalog
from mosaic_framework.manifest import Manifest
from mosaic_framework.runtimes import read_manifest
from mosaic_hostagent.clock import Clock
from mosaic_hostagent.journal import Journal

from tests.support.hostagent import World
from tests.support.supervised import SystemdWorld, install_units
from tests.support.tmux import PrivateTmux, private_tmux
from tests.support.user_systemd import UserSystemd, user_systemd


@pytest.fixture
def private(monkeypatch: pytest.MonkeyPatch) -> Iterator[PrivateTmux]:
    with private_tmux() as private:
        for name in ("XDG_RUNTIME_DIR", "TMUX_TMPDIR", "HOME"):
            monkeypatch.setenv(name, private.environment[name])
        monkeypatch.delenv("TMUX", raising=False)
        yield private


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    journal = await Journal.open(tmp_path / "journal", Clock())
    yield journal
    await journal.close()


@pytest.fixture(scope="session")
def manifest() -> Callable[[str], Manifest]:
    catalog = Catalog.open()
    return lambda name: read_manifest(catalog, name)


@pytest.fixture
def systemd(private: PrivateTmux, tmp_path: Path) -> Iterator[UserSystemd]:
    """A user manager with our units installed."""
    with user_systemd(private.folder, private.environment) as manager:
        install_units(tmp_path, manager)
        yield manager


@pytest.fixture
async def builtin_world(
    private: PrivateTmux, journal: Journal, tmp_path: Path, manifest: Callable[[str], Manifest]
) -> AsyncIterator[World]:
    world = World(private, journal, tmp_path / "state", manifest)
    yield world
    await world.close()


@pytest.fixture
async def systemd_world(
    private: PrivateTmux,
    journal: Journal,
    tmp_path: Path,
    manifest: Callable[[str], Manifest],
    systemd: UserSystemd,
) -> AsyncIterator[SystemdWorld]:
    world = SystemdWorld(private, journal, tmp_path / "state", manifest, systemd)
    yield world
    await world.close()


@pytest.fixture(params=["built-in", "systemd"])
def world(request: pytest.FixtureRequest) -> World:
    """Each implementation in turn."""
    found = request.getfixturevalue("builtin_world" if request.param == "built-in" else "systemd_world")
    assert isinstance(found, World)
    return found
