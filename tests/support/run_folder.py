"""The folder of one test run: what its workers share lives there, and goes with it."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import psutil

from tests.support import postgres

_LEFT_OUT = ("TMUX", "TMUX_PANE", "PGHOST", "PGPORT", "PGUSER", "PGPASSWORD", "PGDATABASE", "PGSERVICE")

VARIABLE = "MOSAIC_TEST_FOLDER"
_PARENT = Path("/tmp")  # short, as sockets are in it
_PREFIX = "mosaic-test-"


def make() -> None:
    """Make this run's folder and name it to the workers in the environment. Clears what killed runs left behind."""
    _clear_killed_runs()
    started = int(psutil.Process().create_time())
    folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-{started}-", dir=_PARENT))
    folder.chmod(0o711)  # as root, the server's account passes through
    os.environ[VARIABLE] = str(folder)
    _keep_out_of_the_users_way(folder)


def _keep_out_of_the_users_way(folder: Path) -> None:
    """Point every program that tests start at this run's folder: home, sockets, locks and the default tmux server."""
    for name in list(os.environ):
        if name in _LEFT_OUT or (name.startswith("MOSAIC_") and not name.startswith("MOSAIC_TEST_")):
            del os.environ[name]
    for name, place in (("HOME", "home"), ("XDG_RUNTIME_DIR", "run"), ("TMUX_TMPDIR", "tmux")):
        (folder / place).mkdir(mode=0o700)
        os.environ[name] = str(folder / place)


def current() -> Path:
    """Return this run's folder, in its owner and in its workers."""
    return Path(os.environ[VARIABLE])


def remove() -> None:
    """Stop what runs in this run's folder, and remove it."""
    _clear(Path(os.environ.pop(VARIABLE)))


def _clear(folder: Path) -> None:
    postgres.stop_shared(folder)
    shutil.rmtree(folder)


def _clear_killed_runs() -> None:
    for folder in _PARENT.glob(f"{_PREFIX}*-*-*"):
        if folder.lstat().st_uid != os.getuid():
            continue
        pid, started, _random = folder.name.removeprefix(_PREFIX).split("-", 2)
        try:
            alive = int(psutil.Process(int(pid)).create_time()) == int(started)
        except psutil.NoSuchProcess:
            alive = False
        if not alive:
            _clear(folder)
