"""bench/reporter: the CPU that a hook costs its agent, beside an interpreter that does nothing and beside /bin/true.

script/bench reporter [--rounds 100]

The reporter is run as a hook runs it, through `sh`. The host-agent's own end is a thread here: its CPU is not counted.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from mosaic_framework import pane
from mosaic_framework.paths import private_folder
from mosaic_hostagent.reports import Reports
from mosaic_hostagent.sessions import PaneSession, Sessions
from mosaic_hostagent.signal_setup import reporter_command
from mosaic_hostagent.signals import Report

RUN = "01a221c6-9dff-746e-9b1a-694c821e51cb"
PAYLOAD = json.dumps({"session_id": RUN, "hook_event_name": "UserPromptSubmit", "prompt": "x" * 2000}).encode()


def cpu(command: list[str], environment: dict[str, str]) -> float:
    """Return the milliseconds of CPU of one run, with its children."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, env=environment, input=PAYLOAD, stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1000


def serve(sessions: Sessions, ready: threading.Event, path: str) -> None:
    """Take reports, as a host-agent does, until the process ends."""

    async def take(_session: PaneSession, _report: Report) -> str:
        return ""

    async def forever() -> None:
        server = await asyncio.start_unix_server(Reports(sessions, take).answer, path)
        ready.set()
        await server.serve_forever()

    asyncio.run(forever())


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description="The CPU of one report.")
    parser.add_argument("--rounds", type=int, default=100)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory(prefix="mosaic-bench-") as name:
        folder = Path(name)
        sessions = Sessions(folder / "state", host="here", socket=folder / "agent.sock")
        private_folder(sessions.spools)
        session, token = sessions.begin(RUN, agent_id="a")
        alive = {**os.environ, **sessions.session_environment(session, token, agent="a")}
        dead = {**alive, pane.SOCKET: str(folder / "nobody.sock")}
        ready = threading.Event()
        path = alive[pane.SOCKET] + pane.REPORT_SUFFIX
        threading.Thread(target=serve, args=(sessions, ready, path), daemon=True).start()
        ready.wait()
        hook = ["sh", "-c", reporter_command().replace("__EVENT__", "UserPromptSubmit")]
        ways = {
            "floor: /bin/true": (["/bin/true"], alive),
            "floor: python -c pass": ([sys.executable, "-c", "pass"], alive),
            "mosaic-report, delivered": (hook, alive),
            "mosaic-report, spooled": (hook, dead),
        }
        taken: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(rounds):  # by turns, so that a busy moment of the machine meets all of them
            for way, (command, environment) in ways.items():
                taken[way].append(cpu(command, environment))
    python = statistics.median(taken["floor: python -c pass"])
    print(f"{'command':<28}{'rounds':>7}{'p50 CPU ms':>12}{'p95':>8}{'max':>8}{'p50 / python':>14}")
    for way, times in taken.items():
        times.sort()
        middle = statistics.median(times)
        late = times[int(len(times) * 0.95)]
        print(f"{way:<28}{rounds:>7}{middle:>12.1f}{late:>8.1f}{times[-1]:>8.1f}{middle / python:>14.2f}")


if __name__ == "__main__":
    main()
