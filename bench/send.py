"""bench/send: what a send costs on its way into a terminal, beside the floor and the common way, in one run.

    .venv/bin/python -m bench.send [--rounds 40]

Four ways put the same 200 bytes into a shell's prompt and see that they have left it:

- floor: one tmux control-mode connection; paste, look, Enter, look. Nothing is written down.
- mesh: MessageService/Send, and Follow until `submitted`, on an open channel; through register, NOTIFY, link, journal.
- command: the whole `mosaic agent send` process.
- sleeping: spawn tmux, sleep 0.5 s, Enter, sleep 1.2 s, look: what scripts commonly do.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

from mosaic_framework.ids import new_id
from mosaic_framework.paths import Home
from mosaic_hostagent.terminal.control_mode import ControlMode
from mosaic_proto.v1 import messages_pb2

from tests.support import fast_postgres
from tests.support.checkout import ROOT
from tests.support.mesh import Host, Mesh, running_mesh

PADDING = "x" * 180


def text(mark: str) -> str:
    """About 200 bytes that a shell runs and that can be recognised."""
    return f"true {mark} {PADDING}"


async def floor(control: ControlMode) -> None:
    mark = new_id().hex
    buffer = f"bench-{mark}"
    await control.run(
        ["set-buffer", "-b", buffer, text(mark)], ["paste-buffer", "-p", "-d", "-b", buffer, "-t", "=floor:"]
    )
    await _until(control, lambda screen: mark in screen)
    await control.run(["send-keys", "-t", "=floor:", "Enter"])
    await _until(control, lambda screen: mark in screen and screen.rstrip().endswith(("$", "#")))


async def _until(control: ControlMode, seen: Callable[[str], bool]) -> None:
    while True:
        (lines,) = await control.run(["capture-pane", "-p", "-J", "-t", "=floor:"])
        if seen("\n".join(lines)):
            return


async def through_the_mesh(mesh: Mesh) -> None:
    message_id = str(new_id())
    await mesh.messages.Send(messages_pb2.SendRequest(request_id=message_id, to="worker", body=text(message_id)))
    request = messages_pb2.FollowRequest(message_id=message_id, until=messages_pb2.MESSAGE_STEP_SUBMITTED)
    step = messages_pb2.MESSAGE_STEP_UNSPECIFIED
    async for receipt in mesh.messages.Follow(request):
        step = receipt.step
    assert step == messages_pb2.MESSAGE_STEP_SUBMITTED, step


async def command(home: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).with_name("mosaic")),
        "agent",
        "send",
        "worker",
        "-m",
        text(new_id().hex),
        env={**os.environ, "MOSAIC_HOME": str(home)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    _, talk = await process.communicate()
    assert process.returncode == 0, talk.decode()


async def sleeping(host: Host) -> None:
    mark = new_id().hex
    await asyncio.to_thread(host.tmux, "send-keys", "-t", "=floor:", "-l", text(mark))
    await asyncio.sleep(0.5)
    await asyncio.to_thread(host.tmux, "send-keys", "-t", "=floor:", "Enter")
    await asyncio.sleep(1.2)
    assert mark in await asyncio.to_thread(host.screen, "floor")


async def measure(way: Callable[[], Awaitable[None]], rounds: int) -> list[float]:
    """Return milliseconds a round, after one that is not counted."""
    await way()
    taken = []
    for _ in range(rounds):
        began = time.perf_counter()
        await way()
        taken.append((time.perf_counter() - began) * 1000)
    return taken


@contextlib.contextmanager
def durable_register() -> Iterator[tuple[Path, str]]:
    """Lend a folder and a PostgreSQL in it that waits for the disk at every commit, as in production."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        folder.chmod(0o711)  # as root the server's own account passes through
        cluster = fast_postgres.make(folder, {"max_connections": "100"})
        fast_postgres.start(cluster)
        try:
            yield folder, cluster.url()
        finally:
            fast_postgres.stop(folder)


async def run(rounds: int) -> None:
    with durable_register() as (folder, url):
        async with running_mesh(url) as mesh:
            host = await mesh.join("alpha")
            await mesh.apply({"worker": "alpha", "floor": "alpha"})
            await mesh.until_available("worker", "floor")
            home = folder / "home"
            mesh.write_context(Home(home))
            control = await ControlMode.attach(
                ["tmux", "-L", host.socket_name], "_holder", env={**os.environ, **host.environment}
            )
            try:
                table = {
                    "floor: raw control mode": await measure(lambda: floor(control), rounds),
                    "mesh: client connected": await measure(lambda: through_the_mesh(mesh), rounds),
                    "command: mosaic agent send": await measure(lambda: command(home), max(5, rounds // 4)),
                    "sleeping: spawn, sleep, look": await measure(lambda: sleeping(host), 3),
                }
            finally:
                with contextlib.suppress(ProcessLookupError):
                    await control.close()
    least = statistics.median(table["floor: raw control mode"])
    print(f"{'way':<30}{'rounds':>7}{'p50 ms':>10}{'p95 ms':>10}{'p50 - floor':>13}{'p50 / floor':>13}")
    for name, taken in table.items():
        middle = statistics.median(taken)
        late = sorted(taken)[min(len(taken) - 1, int(len(taken) * 0.95))]
        print(f"{name:<30}{len(taken):>7}{middle:>10.1f}{late:>10.1f}{middle - least:>13.1f}{middle / least:>13.1f}")


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description="What a send costs on its way into a terminal.")
    parser.add_argument("--rounds", type=int, default=40)
    options = parser.parse_args()
    os.chdir(ROOT)
    asyncio.run(run(options.rounds))


if __name__ == "__main__":
    main()
