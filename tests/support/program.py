"""One of our programs as a process, and waiting for what it does."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.support import forked
from tests.support.checkout import ROOT

WAIT_SECONDS = 30.0


@dataclass
class Program:
    """One of our programs as a process, in a home of its own. `prefix` runs it elsewhere (a network namespace)."""

    arguments: list[str]
    home: Path
    environment: dict[str, str]
    prefix: Sequence[str] = ()
    process: subprocess.Popen[bytes] | forked.ForkedProcess | None = None
    log: Path = field(init=False)

    def __post_init__(self) -> None:
        self.log = self.home / f"{self.arguments[0]}.log"

    def start(self, *, killed_at: str = "-", nth: int = 1) -> None:
        """Start it; it kills itself the nth time it comes to `killed_at`."""
        assert not self.runs
        arguments = [killed_at, str(nth), *self.arguments]
        with self.log.open("ab") as log:
            if not self.prefix and self.arguments[0] in forked.PROGRAMS and (server := forked.server()) is not None:
                self.process = server.start(arguments, log=log, folder=ROOT, environment=self.full_environment)
                return
            self.process = subprocess.Popen(
                [*self.prefix, sys.executable, "-m", "tests.support.launch", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=ROOT,
                env=self.full_environment,
            )

    @property
    def full_environment(self) -> dict[str, str]:
        """What the process gets as its environment."""
        return {**os.environ, **self.environment, "MOSAIC_HOME": str(self.home)}

    @property
    def runs(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    async def killed(self) -> None:
        """Wait until it has killed itself."""
        assert self.process is not None
        await eventually(lambda: not self.runs, f"{self.arguments[0]} kills itself", self)
        assert self.process.returncode == -signal.SIGKILL, self.log.read_text()[-2000:]

    def stop(self) -> None:
        """Ask it to end, and wait."""
        if self.process is not None and self.runs:
            self.process.terminate()
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise AssertionError(f"{self.arguments[0]} did not end: {self.log.read_text()[-2000:]}") from None


async def eventually(
    condition: Callable[[], bool], what: str, program: Program | None = None, *, seconds: float = WAIT_SECONDS
) -> None:
    """Wait until `condition` holds; fails with the program's log after `seconds`."""
    try:
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(0.02)
    except TimeoutError:
        log = program.log.read_text()[-3000:] if program is not None and program.log.exists() else ""
        raise AssertionError(f"never happened: {what}\n{log}") from None
