"""A Mosaic home whose context leads to a fake control plane, and `mosaic` to run against it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from mosaic_framework.paths import Home

from tests.fakes.control_plane import FakeControlPlane
from tests.support.cli import Mosaic, runner


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    for name in ("MOSAIC_CONTEXT", "MOSAIC_TENANT", "MOSAIC_DEBUG", "MOSAIC_DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MOSAIC_HOME", str(tmp_path / "home"))
    runtime = tmp_path / "runtime"
    runtime.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    return Home(tmp_path / "home")


@pytest.fixture
def plane(home: Home, tmp_path: Path) -> Iterator[FakeControlPlane]:
    fake = FakeControlPlane(tmp_path)
    fake.start()
    fake.write_context(home)
    yield fake
    fake.stop()


@pytest.fixture
def mosaic(home: Home, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Mosaic:
    return runner(capsys, monkeypatch)
