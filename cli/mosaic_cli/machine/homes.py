"""Which Mosaic homes of this user run now: a file a home in a folder that all of them share."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from mosaic_framework.paths import Home, runtime_root, write_private

from mosaic_cli.machine.processes import Process


@dataclass(frozen=True, slots=True)
class RunningHome:
    """A home whose supervisor runs, and the ports its control plane listens on."""

    home: Path
    process: Process
    ports: tuple[int, ...]


def register(home: Home, process: Process, ports: tuple[int, ...] = ()) -> None:
    """Say that `home` runs under the supervisor `process`."""
    content = {"home": str(home.root), "pid": process.pid, "start": process.start, "ports": list(ports)}
    write_private(_file(home), json.dumps(content).encode())


def unregister(home: Home) -> None:
    """Say that `home` runs no more."""
    _file(home).unlink(missing_ok=True)


def running() -> list[RunningHome]:
    """Return the homes that run; what a killed supervisor left behind does not count."""
    found = []
    for path in sorted(_folder().glob("*.json")):
        try:
            content = json.loads(path.read_text("utf-8"))
            process = Process(int(content["pid"]), str(content["start"]))
            entry = RunningHome(Path(content["home"]), process, tuple(content["ports"]))
        except (OSError, ValueError, KeyError, TypeError):
            continue  # being written, or not ours
        if process.alive:
            found.append(entry)
    return found


def holder_of(port: int, *, besides: Home) -> RunningHome | None:
    """Return the other home whose control plane listens on `port`."""
    return next((entry for entry in running() if port in entry.ports and entry.home != besides.root), None)


def _folder() -> Path:
    return runtime_root() / "homes"


def _file(home: Home) -> Path:
    return _folder() / f"{home.digest}.json"
