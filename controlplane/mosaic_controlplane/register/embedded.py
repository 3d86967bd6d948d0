"""The register without a database server to set up: PostgreSQL from a wheel, for one `$MOSAIC_HOME`."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import json
import os
import secrets
import signal
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import structlog
from mosaic_framework.errors import Conflict, NotFound
from mosaic_framework.notify import notify
from mosaic_framework.paths import Home, UnsafePath, private_folder, write_private

from mosaic_controlplane.register.database import Database
from mosaic_controlplane.register.postgres_account import SYSTEM_USER, EmbeddedDatabaseFailed, account_for
from mosaic_controlplane.register.postgres_binaries import reachable_binaries
from mosaic_controlplane.register.postgres_cluster import Cluster
from mosaic_controlplane.register.postgres_leftover import clear_leftover
from mosaic_controlplane.register.postgres_server import ServerProcess

log = structlog.get_logger(__name__)

SHARED = Path("/var/lib/mosaic")
"""As root: where the server's own account can go, which a 0700 home is not."""


class DatabaseAlreadyRunning(Conflict):
    """The embedded database of this home is already running."""

    code = "database-already-running"
    hint = "mosaic status"


class EmbeddedPostgres:
    """The embedded server of one home: where it lives, and its data directory made ready.

    Not root: data in `$MOSAIC_HOME/state/postgres`, socket in the home's socket folder. Root: both in
    `<shared>/<home's digest>-<id>/`; the id is kept in `$MOSAIC_HOME/state/postgres-id`, so that a home that was thrown
    away and made anew never meets the old one's data (nor is that data ever removed).
    """

    def __init__(self, home: Home, *, shared: Path = SHARED, user: str = SYSTEM_USER) -> None:
        self._home = home
        self._shared = shared
        self._user = user
        self._as_root = os.geteuid() == 0

    def prepare(self) -> Cluster:
        """Make the data directory if there is none, end what an earlier server left, and return the cluster.

        The caller holds the home's lock. Raises EmbeddedDatabaseFailed, UnsafePath and OSError.
        """
        folder = self._folder()
        data = folder / "postgres"
        account = account_for(data, self._user)
        sockets = self._sockets(folder, account.uid)
        shared = self._shared if self._as_root else folder
        cluster = Cluster(reachable_binaries(account, shared), data, sockets, account)
        if pid := clear_leftover(data):
            log.warning("leftover database server stopped", pid=pid, data=str(data))
        if cluster.initialise():
            log.info("database made", data=str(data), user=account.name)
        return cluster

    def _folder(self) -> Path:
        """Return (made) the folder that holds the data, and what the server may read but not write."""
        state = private_folder(self._home.state)
        if not self._as_root:
            return state
        identity = state / "postgres-id"
        if not identity.exists():
            for kept in self._shared.glob(f"{self._home.digest}-*"):
                log.warning("data of an earlier home of this name is kept", folder=str(kept))
            write_private(identity, secrets.token_hex(4).encode())
        _passable(self._shared, 0o755)
        return _passable(self._shared / f"{self._home.digest}-{identity.read_text().strip()}", 0o711)

    def _sockets(self, folder: Path, uid: int) -> Path:
        if not self._as_root:
            return self._home.sockets()
        sockets = folder / "socket"
        sockets.mkdir(mode=0o700, exist_ok=True)
        os.chown(sockets, uid, -1, follow_symlinks=False)
        return sockets


def run_foreground(home: Home, *, shared: Path = SHARED, user: str = SYSTEM_USER) -> int:
    """Run the home's database until SIGTERM or SIGINT (a second one: without a checkpoint); return 0 after such a stop.

    While it serves, `run/database.json` says {"url", "pid", "postmaster_pid"}; `pid` is this process. On Linux the
    server stops with this process even when that is killed; elsewhere the next run stops it first.
    As root, the server belongs to `user`, which is made when missing.
    Raises DatabaseAlreadyRunning, EmbeddedDatabaseFailed. Call it from the main thread of a process of its own.
    """
    embedded = EmbeddedPostgres(home, shared=shared, user=user)
    try:
        with _home_lock(home), _Stop() as stop:
            return _run(embedded.prepare(), home.run / "database.json", stop)
    except _StoppedEarlyError:
        return 0
    except OSError as error:
        raise EmbeddedDatabaseFailed(
            f"the database of {home.root} cannot run",
            why=str(error),
            next_step=f"df -h {home.root}" if error.errno == errno.ENOSPC else f"ls -la {error.filename or home.root}",
        ) from error


@contextmanager
def lent(home: Home, *, shared: Path = SHARED, user: str = SYSTEM_USER) -> Iterator[str]:
    """Run the home's database for as long as the block lasts, and yield its URL; its log is kept to itself.

    Raises DatabaseAlreadyRunning, EmbeddedDatabaseFailed. Call it from the main thread.
    """
    with _home_lock(home):
        server = ServerProcess(EmbeddedPostgres(home, shared=shared, user=user).prepare(), echo=False)
        try:
            server.wait_until_ready()
            yield server.cluster.url()
        finally:
            server.stop()
            server.wait()


def running_url(home: Home) -> str:
    """Return the URL of the home's database, as whoever runs it says. Raises NotFound."""
    file = home.run / "database.json"
    try:
        url = json.loads(file.read_text(encoding="utf-8"))["url"]
    except (OSError, ValueError, KeyError) as error:
        raise NotFound(
            "the register is not running",
            why=f"MOSAIC_DATABASE_URL is not set and {file} does not say where the embedded one is",
            next_step="mosaic up",
        ) from error
    return str(url)


def _run(cluster: Cluster, told: Path, stop: _Stop) -> int:
    told.unlink(missing_ok=True)
    server = stop.start(cluster)
    try:
        server.wait_until_ready()
        asyncio.run(_prove(cluster.url()))
        said = {"url": cluster.url(), "pid": os.getpid(), "postmaster_pid": server.pid}
        write_private(told, json.dumps(said).encode())
        notify("READY=1")
        log.info("database ready", pid=server.pid, data=str(cluster.data))
        code = server.wait()
        if not stop.asked:
            raise server.failure("the database server ended by itself")
    except BaseException:
        if not stop.asked:
            server.stop()
            server.wait()
            raise
        code = server.wait()
    finally:
        told.unlink(missing_ok=True)
    log.info("database stopped", exit_status=code)
    return 0 if code == 0 else 1


async def _prove(url: str) -> None:
    """Let the control plane's own role in once, so that "ready" is said of what clients need."""
    database = await Database.connect(url, pool_size=1)
    await database.close()


class _StoppedEarlyError(BaseException):
    """A stop was asked for before there was a server."""


class _Stop:
    """Turns SIGTERM and SIGINT into a stop of the server, whenever they come."""

    def __init__(self) -> None:
        self.asked = False
        self._server: ServerProcess | None = None
        self._preparing = True

    def __enter__(self) -> _Stop:
        self._before = {number: signal.signal(number, self._handle) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def start(self, cluster: Cluster) -> ServerProcess:
        """Start the server; a signal that comes meanwhile is acted on as soon as there is one."""
        self._preparing = False
        server = ServerProcess(cluster)
        self._server = server
        if self.asked:
            server.stop()
        return server

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        again, self.asked = self.asked, True
        if self._preparing:
            raise _StoppedEarlyError
        if self._server is not None:
            self._server.stop(immediate=again)


@contextmanager
def _home_lock(home: Home) -> Iterator[None]:
    """Hold the lock that lets one process run this home's database. The kernel drops it with the process."""
    path = private_folder(home.run) / "database.lock"
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(handle, 20).decode(errors="replace").strip()
            raise DatabaseAlreadyRunning(
                f"the database of {home.root} is already running", why=f"process {holder or '?'} holds {path}"
            ) from None
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(handle)


def _passable(path: Path, mode: int) -> Path:
    """Make `path` with `mode`, and return it. Raises UnsafePath when it is a link or another user's."""
    path.mkdir(mode=0o755, parents=True, exist_ok=True)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise UnsafePath(f"{path} is a link or belongs to another user", next_step=f"look at it: ls -ld {path}")
    path.chmod(mode)
    return path
