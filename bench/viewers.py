"""bench/viewers: what viewers of a noisy terminal cost its agent and its host, in one run.

    .venv/bin/python -m bench.viewers [--megabytes 100] [--rounds 3] [--viewers 20]

A program writes as fast as its terminal takes it: with nobody watching, with one viewer, and with twenty of whom one
stopped reading at its first picture. The viewers are processes on this machine and share its cores with all the rest.
`took` is by the program's own clock; `ratio` is against one viewer in the same round, the median of the rounds. `tmux
cpu` is what the tmux server needed for it, which other work on the machine does not change as much. Memory is the most
that resident memory grew over what it was before the output; the scrollback was full by then. `fresh` says whether the
stalled viewer, woken after the end, came to the last picture; `frames` is the median viewer's.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from bench.send import durable_register
from tests.support.crowd import MIB, Crowd, Memory, noise
from tests.support.mesh import Host, Mesh, running_mesh
from tests.support.program import eventually


@dataclass
class Way:
    """One row of the table: so many viewers, of whom the last is stalled when there are more than one."""

    viewers: int
    took: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    growth: dict[str, int] = field(default_factory=dict)
    frames: list[int] = field(default_factory=list)
    fresh: list[bool] = field(default_factory=list)


async def once(mesh: Mesh, host: Host, way: Way, megabytes: int, folder: Path) -> None:
    """Let the program write, and note how long it took and what it cost."""
    done = folder / f"done-{way.viewers}-{len(way.took)}"
    address = f"{mesh.listen}:{mesh.fleet_port}"
    crowds: list[Crowd] = []
    try:
        if way.viewers:
            crowds.append(Crowd(mesh.folder / "operator", address, "noisy", max(1, way.viewers - 1)))
        if way.viewers > 1:
            crowds.append(Crowd(mesh.folder / "operator", address, "noisy", 1))
        for crowd in crowds:
            await crowd.ready()
        if way.viewers > 1:
            crowds[-1].stall()
        tmux = int(host.tmux("display-message", "-p", "#{pid}"))
        assert host.program.process is not None
        assert mesh.controlplane.process is not None
        memory = Memory(hostagent=host.program.process.pid, tmux=tmux, controlplane=mesh.controlplane.process.pid)
        used = psutil.Process(tmux).cpu_times()
        sampling = asyncio.create_task(memory.sample())
        command = noise(megabytes, done)
        host.tmux("send-keys", "-t", "=noisy:", "-l", command)
        host.tmux("send-keys", "-t", "=noisy:", "Enter")
        await eventually(done.exists, "all is written", seconds=300)
        began, ended = map(float, done.read_text().split())
        after = psutil.Process(tmux).cpu_times()
        await asyncio.sleep(1)
        sampling.cancel()
        memory.look()
        for name, grown in memory.growth.items():
            way.growth[name] = max(way.growth.get(name, 0), grown)
        if way.viewers:
            way.frames += [one["frames"] for one in await crowds[0].report()]
        if way.viewers > 1:
            crowds[-1].go_on()
            await asyncio.sleep(1)
            (stalled,) = await crowds[-1].report()
            way.fresh.append(f"finished-{done.name}" in stalled["text"])
    finally:
        for crowd in crowds:
            crowd.close()
    way.took.append(ended - began)
    way.cpu.append(after.user + after.system - used.user - used.system)


async def measure(megabytes: int, rounds: int, viewers: int) -> list[Way]:
    """Run all ways, in turn, so often."""
    ways = [Way(0), Way(1), Way(viewers)]
    with durable_register() as (_, url), tempfile.TemporaryDirectory() as folder:
        async with running_mesh(url) as mesh:
            host = await mesh.join("alpha")
            await mesh.apply({"noisy": "alpha"})
            await mesh.until_available("noisy")
            await once(mesh, host, Way(0), 5, Path(folder))  # fills the scrollback
            (Path(folder) / "done-0-0").unlink()
            for _ in range(rounds):
                for way in ways:
                    await once(mesh, host, way, megabytes, Path(folder))
    return ways


def table(ways: list[Way], megabytes: int) -> str:
    """Return the table."""
    one = ways[1].took
    lines = [
        f"{megabytes} MB of output, {len(one)} rounds; memory in MiB",
        f"{'viewers':>8}{'took s':>9}{'MB/s':>8}{'ratio':>8}{'tmux cpu s':>12}{'ratio':>7}"
        f"{'hostagent':>11}{'tmux':>7}{'controlplane':>14}{'frames':>8}  fresh",
    ]
    for way in ways:
        ratio = statistics.median(mine / other for mine, other in zip(way.took, one, strict=True))
        took, cpu = statistics.median(way.took), statistics.median(way.cpu)
        dearer = cpu / statistics.median(ways[1].cpu)
        grown = [way.growth.get(name, 0) / MIB for name in ("hostagent", "tmux", "controlplane")]
        frames = f"{statistics.median(way.frames):.0f}" if way.frames else "-"
        fresh = f"{sum(way.fresh)} of {len(way.fresh)}" if way.fresh else "-"
        lines.append(
            f"{way.viewers:>8}{took:>9.2f}{megabytes / took:>8.1f}{ratio:>8.2f}{cpu:>12.2f}{dearer:>7.2f}"
            f"{grown[0]:>11.1f}{grown[1]:>7.1f}{grown[2]:>14.1f}{frames:>8}  {fresh}"
        )
    return "\n".join(lines)


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--viewers", type=int, default=20)
    options = parser.parse_args()
    print(table(asyncio.run(measure(options.megabytes, options.rounds, options.viewers)), options.megabytes))


if __name__ == "__main__":
    main()
