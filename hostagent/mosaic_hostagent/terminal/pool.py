"""The tmux servers on which this home has, or had, sessions; remembered on disk so that nothing is left behind."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import structlog
from mosaic_framework.errors import FleetError

from mosaic_hostagent.seats import ServerKey
from mosaic_hostagent.storage import write_state
from mosaic_hostagent.terminal.panes import Observed
from mosaic_hostagent.terminal.server import Holders, TmuxServer

FILE = "tmux-servers.json"

log = structlog.get_logger(__name__)


class ServerPool:
    """One connection a server, made when it is first needed."""

    def __init__(
        self, folder: Path, *, home: str, environment: Mapping[str, str], holders: Holders | None = None
    ) -> None:
        self._holders = holders
        self.on_sessions_changed: Callable[[], None] = lambda: None
        self._path = folder / FILE
        self._home = home
        self._environment = environment
        self._servers: dict[ServerKey, TmuxServer] = {}
        self._folders = _read(self._path)

    @property
    def recorded(self) -> list[ServerKey]:
        """The servers that were ever used and not let go of."""
        return list(self._folders)

    def get(self, key: ServerKey) -> TmuxServer:
        """Return the server of `key`, in the tmux folder in which it was first used."""
        server = self._servers.get(key)
        if server is None:
            environment = dict(self._environment)
            if (folder := self._folders.get(key)) is not None:
                environment["TMUX_TMPDIR"] = folder
            server = self._servers[key] = TmuxServer(
                key, home=self._home, environment=environment, holders=self._holders
            )
            server.on_sessions_changed = lambda: self.on_sessions_changed()
        return server

    async def observe(self, key: ServerKey, *, start: bool) -> Observed:
        """Return our sessions there. `start`: bring the server up when it is not; else none of ours are on it."""
        server = self.get(key)
        if start:
            self._record(key)
        elif not server.connected and not (server.socket_path.exists() and await server.attach_existing()):
            return Observed([], {})
        return await server.observe()

    async def leave(self, key: ServerKey) -> bool:
        """End our holder on a server that has nothing else of ours, and forget it; say whether a holder was there."""
        server = self.get(key)
        there = server.connected or await server.attach_existing()
        if self._holders is not None:
            await self._holders.stop(key)
        elif there:
            await server.kill_holder()
        await server.close()
        self._servers.pop(key, None)
        if self._folders.pop(key, None) is not None:
            self._save()
        return there

    async def close(self) -> None:
        """Detach from all of them. Sessions go on."""
        for server in self._servers.values():
            await server.close()
        self._servers.clear()

    def _record(self, key: ServerKey) -> None:
        if key not in self._folders:
            # Written first: a server that was started and not remembered would be left behind by `release`.
            self._folders[key] = self._environment.get("TMUX_TMPDIR", "")
            self._save()

    def _save(self) -> None:
        rows = [
            {"socket_name": key.socket_name, "holder": key.holder, "tmux_tmpdir": folder}
            for key, folder in self._folders.items()
        ]
        write_state(self._path, json.dumps(rows, indent=1).encode())


class PoolDamaged(FleetError):
    """The list of tmux servers on disk cannot be read."""

    code = "tmux-servers-damaged"


def _read(path: Path) -> dict[ServerKey, str]:
    try:
        rows = json.loads(path.read_bytes())
        return {ServerKey(str(row["socket_name"]), str(row["holder"])): str(row["tmux_tmpdir"]) for row in rows}
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, KeyError) as error:
        raise PoolDamaged(why=str(error), next_step=f"mv {path} {path}.damaged, then start again") from error
