"""bench/startup: the CPU that `mosaic --help` and a completion take, beside an interpreter that does nothing.

script/bench startup [--rounds 20]
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
from pathlib import Path

MOSAIC = str(Path(sys.executable).with_name("mosaic"))
COMPLETION = {"_MOSAIC_COMPLETE": "complete_bash", "COMP_WORDS": "mosaic fl", "COMP_CWORD": "1"}
WAYS: dict[str, tuple[list[str], dict[str, str]]] = {
    "floor: python -c pass": ([sys.executable, "-c", "pass"], {}),
    "mosaic --help": ([MOSAIC, "--help"], {}),
    "completion of a command": ([MOSAIC], COMPLETION),
    "mosaic fleet --help": ([MOSAIC, "fleet", "--help"], {}),
    "mosaic version --help": ([MOSAIC, "version", "--help"], {}),
}


def cpu(command: list[str], environment: dict[str, str]) -> float:
    """Return the milliseconds of CPU of one run."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, env={**os.environ, **environment}, stdout=subprocess.DEVNULL, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1000


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description="The CPU of short commands.")
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds
    taken = {name: sorted(cpu(*way) for _ in range(rounds)) for name, way in WAYS.items()}
    floor = statistics.median(taken["floor: python -c pass"])
    print(f"{'command':<28}{'rounds':>7}{'p50 CPU ms':>12}{'max':>8}{'p50 / floor':>13}")
    for name, times in taken.items():
        middle = statistics.median(times)
        print(f"{name:<28}{rounds:>7}{middle:>12.0f}{times[-1]:>8.0f}{middle / floor:>13.1f}")


if __name__ == "__main__":
    main()
