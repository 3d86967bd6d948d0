"""The host-agent's unix sockets, in a folder that only this user may enter: calls from panes, and reports of hooks."""

from __future__ import annotations

from pathlib import Path

import grpc
import grpc.aio
import structlog
from mosaic_framework import wire
from mosaic_framework.errors import FleetError
from mosaic_framework.paths import Home

from mosaic_hostagent.relay import Relay

NAME = "agent.sock"
_STOP_SECONDS = 1.0

log = structlog.get_logger(__name__)


class SocketUnusable(FleetError):
    """The host-agent's unix socket cannot be served."""

    code = "socket-unusable"


def socket_path(home: Home) -> Path:
    """Return where the socket of this home's host-agent is (its folder made, 0700)."""
    return home.sockets() / NAME


class PaneSocket:
    """Serves calls from panes. The path is free: whoever runs this holds the home's lock."""

    def __init__(self, path: Path, relay: Relay) -> None:
        self._path = path
        self._relay = relay
        self._server: grpc.aio.Server | None = None

    async def start(self) -> None:
        """Begin to serve. Raises SocketUnusable."""
        self._path.unlink(missing_ok=True)
        server = grpc.aio.server(options=wire.SERVER_OPTIONS)
        server.add_generic_rpc_handlers((self._relay,))
        try:
            server.add_insecure_port(f"unix:{self._path}")
            await server.start()
        except (OSError, RuntimeError) as error:
            raise SocketUnusable(
                f"the socket {self._path} cannot be served", why=str(error), next_step=f"look at {self._path.parent}"
            ) from error
        self._server = server
        log.info("panes are served", socket=str(self._path))

    async def close(self) -> None:
        """End calls and take the socket away. May be called twice."""
        server, self._server = self._server, None
        if server is not None:
            await server.stop(_STOP_SECONDS)
            self._path.unlink(missing_ok=True)
