"""Which version of its runtime a seat runs: asked of each installed program once, again when its file changed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

import structlog
from mosaic_framework.errors import FleetError
from mosaic_framework.manifest import Manifest
from mosaic_framework.runtimes import installed, read_version

from mosaic_hostagent.environment import inheritable
from mosaic_hostagent.residents import Resident

_Mark = tuple[str, int, int]

log = structlog.get_logger(__name__)


class Versions:
    """Finds versions in the background. `on_found` is told of each seat whose version is new."""

    def __init__(self, environment: Mapping[str, str], on_found: Callable[[Resident], None]) -> None:
        self._environment = inheritable(environment)
        self._on_found = on_found
        self._known: dict[_Mark, asyncio.Task[str]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._one_at_a_time = asyncio.Semaphore(1)  # a runtime's `--version` costs up to a second of CPU

    def ask(self, resident: Resident) -> None:
        """Find the version that a seat's new run has. One with a `command` of its own, or a shell, has none to ask."""
        manifest = resident.manifest
        if manifest is None or not manifest.version.measured or resident.seat.spec.command:
            return
        task = asyncio.create_task(self._find(resident, manifest, resident.run_id), name="version")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """End what is under way."""
        tasks = [*self._tasks, *self._known.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _find(self, resident: Resident, manifest: Manifest, run_id: str) -> None:
        program = installed(manifest, self._environment)
        if program is None:
            return
        mark = _mark(program)
        if mark not in self._known:
            self._known[mark] = asyncio.create_task(self._read(manifest, program), name="read-version")
        version = await asyncio.shield(self._known[mark])
        if version and resident.run_id == run_id:
            resident.version = version
            self._on_found(resident)

    async def _read(self, manifest: Manifest, program: str) -> str:
        async with self._one_at_a_time:
            try:
                return await asyncio.to_thread(read_version, manifest, program)
            except FleetError as error:
                log.warning("a runtime did not say its version", runtime=manifest.name, why=error.why)
                return ""


def _mark(program: str) -> _Mark:
    real = Path(program).resolve()
    found = real.stat()
    return str(real), found.st_mtime_ns, found.st_size
