"""A host-agent runs as its home's owner alone, and closes the folders of sockets before it touches a seat."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from mosaic_framework.paths import Home, UnsafePath
from mosaic_hostagent.places import close_to_others

SOMEBODY = 64_001
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a home that is another user's")


@needs_root
@pytest.mark.parametrize("verb", ["serve", "release"])
def test_a_host_agent_refuses_to_run_as_another_user_than_its_homes_owner_and_leaves_nothing(
    tmp_path: Path, verb: str
) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    os.chown(home, SOMEBODY, SOMEBODY)
    done = subprocess.run(
        [sys.executable, "-m", "mosaic_hostagent.main", verb],
        env={**os.environ, "MOSAIC_HOME": str(home), "XDG_RUNTIME_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 4
    assert "(not-the-owner)" in done.stderr
    assert f"sudo -iu '#{SOMEBODY}'" in done.stderr
    assert list(home.iterdir()) == []


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    (tmp_path / "run").mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    return Home(tmp_path / "home")


def test_folders_of_sockets_that_stood_open_are_closed_at_the_start(home: Home, tmp_path: Path) -> None:
    tmux = tmp_path / f"tmux-{os.getuid()}"
    for folder in (home.sockets(), tmux):
        folder.mkdir(exist_ok=True)
        folder.chmod(0o775)
    close_to_others(home, {"TMUX_TMPDIR": str(tmp_path)})
    assert [oct(folder.stat().st_mode & 0o777) for folder in (home.sockets(), tmux)] == ["0o700", "0o700"]


def test_a_folder_of_sockets_behind_a_link_is_refused(home: Home, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / f"tmux-{os.getuid()}").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UnsafePath):
        close_to_others(home, {"TMUX_TMPDIR": str(tmp_path)})


@needs_root
def test_a_folder_of_sockets_of_another_user_is_refused(home: Home, tmp_path: Path) -> None:
    tmux = tmp_path / f"tmux-{os.getuid()}"
    tmux.mkdir(mode=0o700)
    os.chown(tmux, SOMEBODY, SOMEBODY)
    with pytest.raises(UnsafePath):
        close_to_others(home, {"TMUX_TMPDIR": str(tmp_path)})
