"""Viewers of one terminal as a process of their own, and the load that they are to bear.

Run as a program (FOLDER OF THE IDENTITY, ADDRESS, AGENT, COUNT) it watches COUNT times, says `ready` when each has a
picture, and answers each line on its standard input with one of JSON: what each has seen.
"""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import psutil
from mosaic_framework import wire
from mosaic_framework.identity_files import StoredIdentity

from tests.support.checkout import ROOT
from tests.support.viewers import watching

MIB = 1024 * 1024


class Crowd:
    """So many viewers, in a process that can be stopped as a laptop that sleeps is."""

    def __init__(self, identity: Path, address: str, agent: str, count: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.crowd", str(identity), address, agent, str(count)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            text=True,
        )

    async def ready(self) -> None:
        assert self._process.stdout is not None
        line = await asyncio.wait_for(asyncio.to_thread(self._process.stdout.readline), 30)
        assert line.strip() == "ready", line

    def stall(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    async def report(self) -> list[dict[str, Any]]:
        """What each viewer has seen: {"frames": …, "text": …}."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("report\n")
        self._process.stdin.flush()
        found = json.loads(await asyncio.wait_for(asyncio.to_thread(self._process.stdout.readline), 30))
        assert isinstance(found, list)
        return found

    async def shows(self, text: str) -> list[int]:
        """Wait until all of them see `text`; returns how many frames each has got."""
        async with asyncio.timeout(30):
            while not all(text in seen["text"] for seen in await self.report()):
                await asyncio.sleep(0.05)
        return [seen["frames"] for seen in await self.report()]

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()


class Memory:
    """The most that processes have grown since `begin`, in bytes of resident memory."""

    def __init__(self, **pids: int) -> None:
        self._processes = {name: psutil.Process(pid) for name, pid in pids.items()}
        self._before = {name: process.memory_info().rss for name, process in self._processes.items()}
        self.growth = dict.fromkeys(pids, 0)

    async def sample(self) -> None:
        """Look until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(0.1)

    def look(self) -> None:
        for name, process in self._processes.items():
            grown = process.memory_info().rss - self._before[name]
            self.growth[name] = max(self.growth[name], grown)


def noise(megabytes: int, done: Path) -> str:
    """A shell command that writes so much as fast as its terminal takes it, and then how many seconds that took."""
    line = "all work and no play makes a dull agent " * 2
    count = megabytes * 1_000_000 // (len(line) + 1)
    return (
        f"b=$(date +%s.%N); yes '{line}' | head -n {count}; e=$(date +%s.%N); "
        f"echo \"$b $e\" > {done}.part; mv {done}.part {done}; echo fin''ished-{done.name}"
    )


async def _watch(identity: Path, address: str, agent: str, count: int) -> None:
    async with AsyncExitStack() as stack:
        screens = []
        for _ in range(count):
            channel = await stack.enter_async_context(wire.aio_channel(StoredIdentity.load(identity), address))
            screens.append(await stack.enter_async_context(watching(channel, agent)))
        for screen in screens:
            await screen.until(lambda seen: seen.frames, "a first picture")
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while await asyncio.to_thread(sys.stdin.readline):
            seen = [
                {"frames": screen.frames, "text": screen.text, "error": str(screen.error or "")} for screen in screens
            ]
            sys.stdout.write(json.dumps(seen) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(_watch(Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])))
