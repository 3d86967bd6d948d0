"""The folder of one test run: what its workers share lives there, and goes with it.

The process that runs pytest owns it, by a lock that the kernel drops with that process; so the next run knows what a
killed one left behind, and clears it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from pathlib import Path

from tests.support import postgres

VARIABLE = "MOSAIC_TEST_FOLDER"
_PARENT = Path("/tmp")  # short, as sockets are in it
_PREFIX = "mosaic-test-"
_LEFT_OUT = ("TMUX", "TMUX_PANE", "PGHOST", "PGPORT", "PGUSER", "PGPASSWORD", "PGDATABASE", "PGSERVICE")
_owned: list[int] = []


def make() -> None:
    """Make this run's folder, name it to the workers in the environment, and clear what killed runs left behind."""
    for folder in _PARENT.glob(f"{_PREFIX}*"):
        _clear_if_abandoned(folder)
    # It gets its name only when it is locked: another run that starts now must not take it for abandoned.
    unlocked = Path(tempfile.mkdtemp(prefix=f".{_PREFIX}", dir=_PARENT))
    _owned.append(os.open(unlocked / "owner.lock", os.O_RDWR | os.O_CREAT, 0o600))
    fcntl.flock(_owned[0], fcntl.LOCK_EX)
    unlocked.chmod(0o711)  # as root, the server's account passes through
    folder = unlocked.rename(_PARENT / unlocked.name.removeprefix("."))
    os.environ[VARIABLE] = str(folder)
    _keep_out_of_the_users_way(folder)


def current() -> Path:
    """Return this run's folder, in its owner and in its workers."""
    return Path(os.environ[VARIABLE])


def remove() -> None:
    """Stop what runs in this run's folder, and remove it."""
    _clear(Path(os.environ.pop(VARIABLE)))
    os.close(_owned.pop())


def _keep_out_of_the_users_way(folder: Path) -> None:
    """Point every program that tests start at this run's folder: home, sockets, locks and the default tmux server."""
    for name in list(os.environ):
        if name in _LEFT_OUT or (name.startswith("MOSAIC_") and not name.startswith("MOSAIC_TEST_")):
            del os.environ[name]
    for name, place in (("HOME", "home"), ("XDG_RUNTIME_DIR", "run"), ("TMUX_TMPDIR", "tmux")):
        (folder / place).mkdir(mode=0o700)
        os.environ[name] = str(folder / place)


def _clear(folder: Path) -> None:
    postgres.stop_shared(folder)
    shutil.rmtree(folder)


def _clear_if_abandoned(folder: Path) -> None:
    try:
        handle = os.open(folder / "owner.lock", os.O_RDWR | os.O_NOFOLLOW)
    except OSError:  # gone meanwhile, another user's, or nothing of ours
        return
    try:
        if os.fstat(handle).st_uid == os.getuid():
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _clear(folder)
    except BlockingIOError:
        return  # its run is alive
    finally:
        os.close(handle)
