"""Running the command that updates a runtime: an argument vector, in a session of its own, bounded in time.

It is no child that dies with us: a host-agent that ends leaves it to the next one, which finds it by its pid and start.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from mosaic_hostagent.processes import wait_for_exit

TAIL_BYTES = 4096
_KILL_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended. `status` is None when nobody knows it; `late`: it was ended by us."""

    status: int | None
    late: bool = False


class Command:
    """A command that has been started."""

    def __init__(self, pid: int, started: float, process: subprocess.Popen[bytes] | None = None) -> None:
        self.pid = pid
        self.started = started
        self._process = process

    @classmethod
    async def start(cls, argv: Sequence[str], *, env: Mapping[str, str], folder: Path, output: Path) -> Command:
        """Start it, with all that it says in the file `output` (0600). Raises OSError."""
        return await asyncio.to_thread(cls._start, argv, env, folder, output)

    @classmethod
    def _start(cls, argv: Sequence[str], env: Mapping[str, str], folder: Path, output: Path) -> Command:
        output.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            process = subprocess.Popen(
                list(argv),
                env=dict(env),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=descriptor,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        finally:
            os.close(descriptor)
        return cls(process.pid, psutil.Process(process.pid).create_time(), process)

    @classmethod
    def found(cls, pid: int, started: float) -> Command | None:
        """Return the command that an earlier host-agent started, if it still runs."""
        try:
            process = psutil.Process(pid)
            if abs(process.create_time() - started) < 1.0 and process.status() != psutil.STATUS_ZOMBIE:
                return cls(pid, started)
        except psutil.NoSuchProcess:
            return None
        return None

    async def wait(self, seconds: float) -> Ended:
        """Wait for its end; after `seconds` end it, with all that it started in its process group."""
        if await wait_for_exit(self.pid, seconds):
            return Ended(self._status())
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.pid, number)
            except ProcessLookupError:
                break
            if await wait_for_exit(self.pid, _KILL_SECONDS):
                break
        return Ended(self._status(), late=True)

    def _status(self) -> int | None:
        return self._process.wait(_KILL_SECONDS) if self._process is not None else None


def tail_of(file: Path) -> str:
    """Return the end of what a command has said; empty when there is nothing."""
    try:
        with file.open("rb") as said:
            said.seek(max(0, os.fstat(said.fileno()).st_size - TAIL_BYTES))
            return said.read(TAIL_BYTES).decode(errors="replace")
    except FileNotFoundError:
        return ""
