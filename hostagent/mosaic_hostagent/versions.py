"""Which version of its runtime a seat runs: asked of each installed program once, again when its file changed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

import structlog
from mosaic_framework.errors import FleetError
from mosaic_framework.manifest import Manifest
from mosaic_framework.paths import Home
from mosaic_framework.programs import find_program
from mosaic_framework.runtimes import read_version
from mosaic_framework.seat_environment import PROGRAM, read_env_file

from mosaic_hostagent.environment import inheritable
from mosaic_hostagent.residents import Resident

_Mark = tuple[str, int, int]

log = structlog.get_logger(__name__)


class Versions:
    """Finds versions in the background. `on_found` is told of each seat whose version is new."""

    def __init__(self, home: Home, environment: Mapping[str, str], on_found: Callable[[Resident], None]) -> None:
        self._home = home
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
        try:
            program = self._program(resident, manifest)
            mark = _mark(program)
        except (FleetError, OSError) as error:
            log.warning(
                "a seat's program could not be found to ask its version", agent=resident.seat.name, why=str(error)
            )
            return
        if mark not in self._known:
            self._known[mark] = asyncio.create_task(self._read(manifest, program), name="read-version")
        version = await asyncio.shield(self._known[mark])
        # One that was put there since is not what was started: nobody can say which version that was.
        if version and resident.run_id == run_id and not changed_since(program, resident.began_ms):
            resident.version = version
            self._on_found(resident)

    def _program(self, resident: Resident, manifest: Manifest) -> str:
        file = read_env_file(self._home, resident.seat.name)
        known = file.generated.get(PROGRAM, "") if file is not None else ""
        return find_program(manifest, self._environment, known=known).program

    async def _read(self, manifest: Manifest, program: str) -> str:
        async with self._one_at_a_time:
            try:
                return await asyncio.to_thread(read_version, manifest, program)
            except FleetError as error:
                log.warning("a runtime did not say its version", runtime=manifest.name, why=error.why)
                return ""


def changed_since(program: str, began_ms: int) -> bool:
    """Whether a program's file is another one, or was put there, since `began_ms` (Unix milliseconds).

    By its ctime: installers set the mtime to what they like.
    """
    try:
        return Path(program).resolve().stat().st_ctime_ns > began_ms * 1_000_000
    except FileNotFoundError:
        return True


def _mark(program: str) -> _Mark:
    real = Path(program).resolve()
    found = real.stat()
    return str(real), found.st_mtime_ns, found.st_size
