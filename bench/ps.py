"""bench/ps: the CPU of `mosaic fleet ps` beside the call that it makes, in one run.

    script/bench ps [--agents 10,100,1000] [--rounds 7]

- floor: an interpreter that imports the client and calls ListAgents once.
- table, json: the whole command. What it adds to the floor has a budget of 100 ms (docs/operating.md).
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from mosaic_framework.paths import Home

from tests.fakes.control_plane import FakeControlPlane

CALL = """
from mosaic_cli.client import connect
from mosaic_proto.v1 import fleet_pb2 as pb
with connect() as connection:
    connection.list_agents()
"""
COMMAND = [sys.executable, "-m", "mosaic_cli.main", "fleet", "ps"]
WAYS = {"floor: the call": [sys.executable, "-c", CALL], "table": COMMAND, "json": [*COMMAND, "-o", "json"]}


def cpu(command: list[str], home: Path, rounds: int) -> float:
    """Return the least milliseconds of CPU that a run took."""
    taken = []
    for _ in range(rounds):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        environment = {**os.environ, "MOSAIC_HOME": str(home)}
        subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        taken.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(taken) * 1000


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description="The CPU of `mosaic fleet ps`.")
    parser.add_argument("--agents", default="10,100,1000")
    parser.add_argument("--rounds", type=int, default=7)
    wish = parser.parse_args()
    print(f"{'agents':>7}  {'way':<16}{'CPU ms':>8}{'added':>8}{'/ floor':>9}")
    with tempfile.TemporaryDirectory() as folder:
        for count in map(int, wish.agents.split(",")):
            plane = FakeControlPlane(Path(folder))
            plane.start()
            for number in range(count):
                plane.add_host(f"host{number % 10}")
                plane.add_agent(
                    f"coder{number}", host=f"host{number % 10}", id=f"01900000-0000-7000-8000-{number:012x}"
                )
            home = Home(Path(folder) / f"home-{count}")
            home.root.mkdir()
            plane.write_context(home)
            taken = {name: cpu(way, home.root, wish.rounds) for name, way in WAYS.items()}
            floor = taken["floor: the call"]
            for name, milliseconds in taken.items():
                more, ratio = milliseconds - floor, milliseconds / floor
                print(f"{count:>7}  {name:<16}{milliseconds:>8.0f}{more:>8.0f}{ratio:>9.2f}")
            plane.stop()


if __name__ == "__main__":
    main()
