"""Keeping one service running: start it, see it ready, start it again with a growing pause, stop it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import structlog
from mosaic_framework.paths import private_folder

from mosaic_cli.machine.processes import Process, record
from mosaic_cli.machine.services import Service

log = structlog.get_logger()

PAUSE_FIRST, PAUSE_MOST = 0.5, 30.0
STABLE_AFTER = 60.0
"""Seconds after which a service counts as well, and the next pause is the first again."""

LOG_LIMIT = 16 * 1024 * 1024
_LOOK_EVERY = 0.05
"""Seconds between looks for the ready file while a service starts; nothing tells us portably that a file appeared."""


@dataclass(slots=True)
class Health:
    """What is known of a service. `state`: waiting, starting, running, paused, stopped."""

    name: str
    state: str = "waiting"
    pid: int | None = None
    since: float = 0.0
    restarts: int = 0
    last_exit: int | None = None
    failures_in_a_row: int = 0

    def move(self, state: str) -> None:
        """Enter a state now."""
        self.state, self.since = state, time.time()


class Keeper:
    """Keeps one service running; `changed` is called at every change of its health."""

    def __init__(self, service: Service, pid_file: Any, changed: Callable[[], None]) -> None:
        self.service = service
        self.health = Health(service.name, since=time.time())
        self.ready = asyncio.Event()
        self._pid_file = pid_file
        self._changed = changed
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = asyncio.Event()
        self._restart_asked = False
        self.environment: dict[str, str] = dict(service.environment)

    async def run(self, may_start: Callable[[], Any]) -> None:
        """Keep it running until `stop`; before each start, `may_start` resolves when all it needs is there."""
        pause = PAUSE_FIRST
        while not self._stopping.is_set():
            if not await self._unless_stopping(may_start()):
                return
            began = time.monotonic()
            code = await self._once()
            if self._stopping.is_set():
                return
            if self._restart_asked:
                self._restart_asked, pause = False, PAUSE_FIRST
                continue
            well = time.monotonic() - began > STABLE_AFTER
            pause = PAUSE_FIRST if well else min(pause * 2, PAUSE_MOST)
            self.health.failures_in_a_row = 0 if well else self.health.failures_in_a_row + 1
            self.health.restarts += 1
            log.warning("service ended", service=self.service.name, status=code, pause=pause)
            self._move("paused")
            await self._unless_stopping(asyncio.sleep(pause))

    def restart(self) -> None:
        """Let it end and start it again at once; nothing when it does not run."""
        process = self._process
        if process is not None and process.returncode is None:
            self._restart_asked = True
            process.send_signal(signal.SIGTERM)

    async def stop(self) -> None:
        """End it: SIGTERM, then SIGKILL after its time is over."""
        self._stopping.set()
        process = self._process
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(self.service.stop_within):
                    await process.wait()
            except TimeoutError:
                log.error("service did not stop in time", service=self.service.name)
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        self._move("stopped")
        self._pid_file.unlink(missing_ok=True)
        self.service.ready_file.unlink(missing_ok=True)

    async def _once(self) -> int:
        """Start it once, and return its exit status when it has ended."""
        self.service.ready_file.unlink(missing_ok=True)
        self._move("starting")
        with _open_log(self.service) as out:
            # In a session of its own: a Ctrl-C at the terminal of `mosaic up` is not for it.
            self._process = await asyncio.create_subprocess_exec(
                *self.service.argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env={**os.environ, **self.environment},
                start_new_session=True,
            )
        self.health.pid = self._process.pid
        found = Process.running(self._process.pid)
        if found is not None:
            record(self._pid_file, found)
        log.info("service started", service=self.service.name, pid=self._process.pid)
        self._changed()
        ended = asyncio.ensure_future(self._process.wait())
        while not ended.done() and not self.service.ready_file.exists():
            await asyncio.wait({ended}, timeout=_LOOK_EVERY)
        if not ended.done():
            self.ready.set()
            self._move("running")
        code = await ended
        self.ready.clear()
        self.health.pid, self.health.last_exit = None, code
        self._pid_file.unlink(missing_ok=True)
        return code

    async def _unless_stopping(self, what: Any) -> bool:
        """Await `what`; False when the keeper was told to stop first."""
        task, stopping = asyncio.ensure_future(what), asyncio.ensure_future(self._stopping.wait())
        await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
        for future in (task, stopping):
            future.cancel()
        await asyncio.gather(task, stopping, return_exceptions=True)
        return not self._stopping.is_set()

    def _move(self, state: str) -> None:
        self.health.move(state)
        self._changed()


def _open_log(service: Service) -> Any:
    """Open the log to append, after putting a large one aside."""
    private_folder(service.log.parent)
    if service.log.exists() and service.log.stat().st_size > LOG_LIMIT:
        service.log.replace(service.log.with_suffix(".log.1"))
    handle = os.open(service.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    return os.fdopen(handle, "ab")
