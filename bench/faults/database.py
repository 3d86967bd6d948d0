"""The register of a seed: the tests' PostgreSQL, at an address of its own that replicas can be cut off from."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

import asyncpg
import psutil
from mosaic_controlplane.register.postgres_cluster import DATABASE, ROLE, SUPERUSER

from tests.support import fast_postgres

# A killed server loses nothing that it has written: the machine lives on, so nobody has to wait for its disk. What it
# has not yet written it must not have acknowledged.
_SETTINGS = {**fast_postgres.FAST, "synchronous_commit": "on", "max_connections": "120", "restart_after_crash": "on"}


class Postgres:
    """One server. It can be started again after any end."""

    def __init__(self, folder: Path, address: str, prefix: Sequence[str]) -> None:
        folder.mkdir()
        folder.chmod(0o711)  # as root, the server's own account passes through
        self._cluster = fast_postgres.make(folder, _SETTINGS)
        access = folder / f"{self._cluster.data.name}_hba.conf"
        access.write_text(access.read_text() + f"host all all {address.rpartition('.')[0]}.0/24 trust\n")
        self._address, self._prefix = address, prefix
        self.log = folder / "postgres.log"
        self.process: subprocess.Popen[bytes] | None = None

    def url(self, role: str = ROLE) -> str:
        return f"postgresql://{role}@{self._address}:5432/{DATABASE}"

    def start(self) -> None:
        account = self._cluster.account
        become = ["setpriv", f"--reuid={account.uid}", f"--regid={account.gid}", "--clear-groups"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self._prefix, *become, *self._cluster.command(), "-c", f"listen_addresses={self._address}"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._cluster.data,
                env=account.environment(),
            )

    @property
    def runs(self) -> bool:
        return self.process is not None and self.process.poll() is None

    async def stop(self, how: str) -> None:
        """End it: `fast` breaks off all transactions, `kill -9` ends each of its processes. Returns when it is gone."""
        assert self.process is not None
        if how == "kill -9":
            server = psutil.Process(self.process.pid)
            server.suspend()  # so that it starts nothing more, nor takes leave of those that die first
            serving = server.children(recursive=True)
            for process in (server, *serving):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            await asyncio.to_thread(psutil.wait_procs, serving)
        else:
            self.process.send_signal(signal.SIGINT)
        await asyncio.to_thread(self.process.wait)

    async def serves(self) -> None:
        """Return when it takes connections."""
        while True:
            try:
                connection = await asyncpg.connect(self.url(SUPERUSER), timeout=2)
            except (OSError, TimeoutError, asyncpg.PostgresError):
                await asyncio.sleep(0.05)
            else:
                await connection.close()
                return
