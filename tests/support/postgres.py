"""PostgreSQL for tests: one server for the whole run, a migrated template, and a fresh database for each test.

Where it comes from: MOSAIC_TEST_DATABASE_URL (a role that may create databases), else Docker when an engine answers,
else the embedded one. The process that runs pytest owns the run's folder (run_folder.py); whichever worker needs the
server first starts it there, and the owner stops it at the end.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import pwd
import threading
import uuid
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import asyncpg
from mosaic_controlplane.register.migrate import migrate
from mosaic_controlplane.register.postgres_cluster import ROLE, SUPERUSER

from tests.support import docker_postgres, fast_postgres


@dataclass(frozen=True)
class Server:
    """How the run's server is reached, as written to `server.json`.

    `role` owns the tests' databases: the control plane's role, no superuser, where the server is ours. `container` is
    the id of a Docker container; `external` says that the server outlives the run.
    """

    admin_url: str
    role: str
    template: str = ""
    container: str = ""
    external: bool = False

    def url(self, database: str) -> str:
        """Return the URL of `database` for `role`."""
        parts = urlsplit(self.admin_url)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if "user" in query:
            query["user"] = self.role
        return f"{parts.scheme}://{parts.netloc}/{database}?{urlencode(query, safe='/')}"


class Databases:
    """Makes and drops the databases of one worker's tests, over one connection. Any thread may call it."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._admin: asyncpg.Connection[asyncpg.Record] | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="test-databases", daemon=True)
        self._thread.start()

    def create(self, *, migrated: bool = True) -> str:
        """Return the URL of a new database."""
        name = f"test_{uuid.uuid4().hex}"
        template = self.server.template if migrated else "template0"
        self.execute(f'create database {name} template {template} owner "{self.server.role}"')
        return self.server.url(name)

    def drop(self, url: str) -> None:
        """Remove the database of `url`, whoever is still connected."""
        self.execute(f"drop database if exists {urlsplit(url).path.lstrip('/')} with (force)")

    def shut(self, url: str) -> None:
        """Let nobody into the database of `url`, and cut off who is in: to them the register is away."""
        name = urlsplit(url).path.lstrip("/")
        self.execute(f"alter database {name} allow_connections false")
        self.execute(f"select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}'")

    def open_again(self, url: str) -> None:
        """Undo `shut`."""
        self.execute(f"alter database {urlsplit(url).path.lstrip('/')} allow_connections true")

    def execute(self, statement: str) -> None:
        """Run one statement as the server's administrator, outside of any test's event loop."""

        async def run() -> None:
            if self._admin is None or self._admin.is_closed():
                self._admin = await asyncpg.connect(self.server.admin_url, timeout=10)
            await self._admin.execute(statement)

        self._wait(run())

    def close(self) -> None:
        """Close the connection; the server runs on for the other workers."""

        async def end() -> None:
            if self._admin is not None:
                await self._admin.close()

        self._wait(end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _wait(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=60)


@contextmanager
def shared_databases(folder: Path) -> Iterator[Databases]:
    """Lend the databases of the run's one server, which is started by whoever comes first."""
    state = folder / "server.json"
    with (folder / "server.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not state.exists():
            server = _with_template(_find_server(folder))
            state.write_text(json.dumps(asdict(server)))
    databases = Databases(Server(**json.loads(state.read_text())))
    try:
        yield databases
    finally:
        databases.close()


def stop_shared(folder: Path) -> None:
    """Stop the run's server, if one was started, or leave an external one as it was found."""
    state = folder / "server.json"
    if state.exists():
        server = Server(**json.loads(state.read_text()))
        if server.container:
            docker_postgres.stop(server.container)
        elif server.external:
            databases = Databases(server)
            databases.drop(server.url(server.template))
            databases.close()
    fast_postgres.stop(folder)


def _find_server(folder: Path) -> Server:
    if url := os.environ.get("MOSAIC_TEST_DATABASE_URL"):
        return Server(url, urlsplit(url).username or pwd.getpwuid(os.getuid()).pw_name, external=True)
    if docker_postgres.engine_answers():
        container, url = docker_postgres.start()
        return Server(url, urlsplit(url).username or "", container=container)
    cluster = fast_postgres.make(folder)
    fast_postgres.start(cluster)
    return Server(cluster.url(role=SUPERUSER, database="postgres"), ROLE)


def _with_template(server: Server) -> Server:
    name = f"template_{uuid.uuid4().hex}"
    databases = Databases(server)
    databases.execute(f'create database {name} template template0 owner "{server.role}"')

    async def fill() -> None:
        connection = await asyncpg.connect(server.url(name), timeout=10)
        try:
            await migrate(connection)
        finally:
            await connection.close()

    databases._wait(fill())
    databases.close()
    return Server(server.admin_url, server.role, name, server.container, server.external)
