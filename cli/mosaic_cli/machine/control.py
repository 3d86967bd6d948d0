"""Talking to the supervisor of this home: how its services are, at once and at every change."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mosaic_framework.paths import Home

from mosaic_cli.machine.processes import Process, recorded
from mosaic_cli.machine.services import pid_file

_HEARD_WITHIN = 10.0


@dataclass(frozen=True, slots=True)
class ServiceState:
    """One service as its supervisor sees it."""

    name: str
    state: str
    pid: int | None
    since: float
    restarts: int
    last_exit: int | None
    failures_in_a_row: int


class Control:
    """A connection to the supervisor's socket."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._rest = b""
        self._told = False

    def look(self) -> None:
        """Let the supervisor look again for what services wait for."""
        self._tell("look")

    def restart(self, service: str) -> None:
        """Let the supervisor restart a service, should it run."""
        self._tell(f"restart {service}")

    def leave(self) -> None:
        """Wait until the supervisor has read all that it was told.

        One that writes to a closed connection before it has read from it never sees what was sent.
        """
        if not self._told:
            return
        with contextlib.suppress(OSError):  # it ends, or hangs: whoever told it something sees that nothing came of it
            self._connection.settimeout(_HEARD_WITHIN)
            self._connection.shutdown(socket.SHUT_WR)
            while self._connection.recv(65536):
                pass

    def states(self, deadline: float) -> Iterator[list[ServiceState]]:
        """Yield how all services are, now and at every change, until `deadline` (time.monotonic()) or its end."""
        while (left := deadline - time.monotonic()) > 0:
            line, newline, rest = self._rest.partition(b"\n")
            if newline:
                self._rest = rest
                yield [ServiceState(**item) for item in json.loads(line)["services"]]
                continue
            self._connection.settimeout(left)
            try:
                chunk = self._connection.recv(65536)
            except (TimeoutError, ConnectionError):
                return
            if not chunk:
                return
            self._rest += chunk

    def _tell(self, line: str) -> None:
        self._told = True
        with contextlib.suppress(ConnectionError):  # it has ended; its services are as they would be without it
            self._connection.sendall(f"{line}\n".encode())


@contextmanager
def control(home: Home) -> Iterator[Control | None]:
    """Connect to the supervisor of `home`; None when none answers."""
    connection = _connected(home)
    if connection is None:
        yield None
        return
    with connection:
        found = Control(connection)
        yield found
        found.leave()


def _connected(home: Home) -> socket.socket | None:
    path = _socket(home)
    if path is None:
        return None
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(2.0)
    try:
        connection.connect(str(path))
    except OSError:  # none listens: it is gone, or only just starting
        connection.close()
        return None
    return connection


def supervisor(home: Home) -> Process | None:
    """Return the supervisor of `home` while it runs."""
    return recorded(pid_file(home, "supervisor"))


def states_now(home: Home) -> list[ServiceState]:
    """Return how the services are now; empty when there is no supervisor."""
    with control(home) as connection:
        if connection is None:
            return []
        return next(connection.states(time.monotonic() + 2.0), [])


def _socket(home: Home) -> Path | None:
    try:
        content: dict[str, Any] = json.loads((home.run / "supervisor.json").read_text("utf-8"))
        return Path(content["socket"])
    except (OSError, ValueError, KeyError):
        return None
