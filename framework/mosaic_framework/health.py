"""Whether a program is alive, and whether it is ready, and a loopback HTTP server that says so and serves metrics.

Alive: its event loop turns. Ready: it can do its work now, such as reach the register. Both are answered from a thread
of their own, so that a loop that hangs is told as such: `/alive`, `/ready` (200 or 503, with a reason) and `/metrics`.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

from mosaic_framework.errors import NotFound, PortInUse, Unreachable
from mosaic_framework.paths import Home, write_private

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

    from prometheus_client import CollectorRegistry

LOOPBACK = "127.0.0.1"
PULSE_SECONDS = 0.5
ALIVE_SECONDS = 10.0  # an event loop that has not turned for so long hangs
REQUEST_SECONDS = 5.0  # how long a scraper may take to say what it wants
REFRESH_SECONDS = 3.0
_ANSWER_LIMIT = 65_536


class Pulse:
    """When the event loop turned last, how late it was, and how many tasks it had."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._at = clock()
        self.lag = 0.0
        self.tasks = 0

    @property
    def age(self) -> float:
        """The seconds since the loop turned last."""
        return self._clock() - self._at

    async def run(self) -> None:
        """Beat until cancelled."""
        while True:
            due = self._clock() + PULSE_SECONDS
            await asyncio.sleep(PULSE_SECONDS)
            self._at = self._clock()
            self.lag = max(0.0, self._at - due)
            self.tasks = len(asyncio.all_tasks())


@dataclass(frozen=True, slots=True)
class Health:
    """What a program says of itself. `why` is empty when it is ready."""

    alive: bool
    ready: bool
    why: str = ""


def health_of(pulse: Pulse, problem: Callable[[], str]) -> Callable[[], Health]:
    """Return what tells the health of a program; `problem` says why it is not ready, or ''."""

    def tell() -> Health:
        if pulse.age > ALIVE_SECONDS:
            return Health(alive=False, ready=False, why=f"its event loop has not turned for {pulse.age:.0f} s")
        why = problem()
        return Health(alive=True, ready=not why, why=why)

    return tell


class HealthServer:
    """The HTTP server of one program. `refresh` is run in the loop before metrics are told, within 3 s."""

    def __init__(
        self,
        registry: CollectorRegistry,
        health: Callable[[], Health],
        *,
        refresh: Callable[[], Coroutine[Any, Any, None]] | None = None,
    ) -> None:
        self._registry = registry
        self._health = health
        self._refresh = refresh
        self._loop: asyncio.AbstractEventLoop | None = None
        self._server: Any = None
        self._thread: threading.Thread | None = None

    def start(self, port: int) -> str:
        """Serve on this port of the loopback, 0 for a free one; returns host:port. Raises PortInUse."""
        from prometheus_client.exposition import ThreadingWSGIServer

        self._loop = asyncio.get_running_loop()
        try:
            self._server = make_server(LOOPBACK, port, self._answer, ThreadingWSGIServer, handler_class=_Handler)
        except OSError as error:
            raise PortInUse(
                f"port {port} on {LOOPBACK} is in use",
                why="metrics and health were to be told there",
                next_step="set metrics_port to another port, to 0 for a free one, or to off",
            ) from error
        self._thread = threading.Thread(target=self._server.serve_forever, name="health", daemon=True)
        self._thread.start()
        return f"{LOOPBACK}:{self._server.server_port}"

    def stop(self) -> None:
        """Stop serving. May be called twice, and before `start`."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()

    def _answer(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        match (environ.get("REQUEST_METHOD"), environ.get("PATH_INFO")):
            case ("GET", "/metrics"):
                from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

                self._be_fresh()
                return _say(start_response, "200 OK", generate_latest(self._registry), CONTENT_TYPE_LATEST)
            case ("GET", "/alive" | "/ready" as path):
                health = self._health()
                good = health.alive if path == "/alive" else health.ready
                content = json.dumps({"alive": health.alive, "ready": health.ready, "why": health.why}).encode()
                return _say(start_response, "200 OK" if good else "503 Service Unavailable", content + b"\n")
        return _say(start_response, "404 Not Found", b'{"why": "there are /alive, /ready and /metrics"}\n')

    def _be_fresh(self) -> None:
        if self._refresh is None or self._loop is None or not self._health().alive:
            return
        refreshed = asyncio.run_coroutine_threadsafe(self._refresh(), self._loop)
        try:
            refreshed.result(REFRESH_SECONDS)
        except TimeoutError:
            refreshed.cancel()  # what is told is older then; its age is one of the metrics


class _Handler(WSGIRequestHandler):
    timeout = REQUEST_SECONDS  # who connects and says nothing does not stay
    protocol_version = "HTTP/1.0"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's word
        """Requests are not logged: a scrape every few seconds says nothing."""


def _say(start_response: StartResponse, status: str, content: bytes, kind: str = "application/json") -> Iterable[bytes]:
    start_response(status, [("Content-Type", kind), ("Content-Length", str(len(content)))])
    return [content]


def address_file(home: Home, program: str) -> Path:
    """Return where a program ("controlplane", "hostagent") of this home writes at which address it can be asked."""
    return home.run / f"{program}-health.json"


def tell_address(home: Home, program: str, address: str) -> None:
    """Write where this process can be asked."""
    write_private(address_file(home, program), json.dumps({"pid": os.getpid(), "address": address}).encode())


def process_told(home: Home, program: str) -> int | None:
    """Return the process that wrote where the program of this home can be asked, while it runs."""
    import psutil

    file = address_file(home, program)
    try:
        pid = int(json.loads(file.read_text(encoding="utf-8"))["pid"])
        # One that has begun after the file was written has the number alone of who wrote it.
        return pid if psutil.Process(pid).create_time() <= file.stat().st_mtime else None
    except (OSError, ValueError, KeyError, TypeError, OverflowError, psutil.Error):
        return None  # it has told nothing, or no more than half


def tell(home: Home, program: str) -> int:
    """Print how the program of this home is; returns the exit code: 0 when it is ready, else 1. Raises as `ask`."""
    found = ask(home, program)
    sys.stdout.write(f"alive: {_word(found.alive)}\nready: {_word(found.ready)}\n")
    if found.why:
        sys.stdout.write(f"why:   {found.why}\n")
    return 0 if found.ready else 1


def _word(yes: bool) -> str:
    return "yes" if yes else "no"


def ask(home: Home, program: str, *, timeout: float = 3.0) -> Health:
    """Ask the program of this home how it is. Raises NotFound when it does not say where, Unreachable."""
    file = address_file(home, program)
    try:
        address = str(json.loads(file.read_text(encoding="utf-8"))["address"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NotFound(
            f"no {program} of {home.root} says where it can be asked",
            why=f"it does not run, or metrics_port is off ({file})",
            next_step="mosaic status",
        ) from error
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy has no business here
    try:
        try:
            with opener.open(f"http://{address}/ready", timeout=timeout) as reply:
                content = reply.read(_ANSWER_LIMIT)
        except urllib.error.HTTPError as error:
            content = error.read(_ANSWER_LIMIT)
        told = json.loads(content)
        return Health(alive=bool(told["alive"]), ready=bool(told["ready"]), why=str(told["why"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Unreachable(
            f"the {program} at {address} does not answer", why=str(error) or "no answer", next_step="mosaic status"
        ) from error
