"""One machine for tests: a Mosaic home, a runtime folder and a tmux socket of its own, and `mosaic` to run there."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
from mosaic_cli.machine.leftovers import marked_processes
from mosaic_cli.machine.processes import end
from mosaic_cli.machine.services import MARK
from mosaic_framework.paths import Home

from tests.support.run_folder import VARIABLE


class Machine:
    """One Mosaic home with a runtime folder and a tmux socket of its own."""

    def __init__(self, folder: Path) -> None:
        self.home = Home(folder / "home")
        self.socket_name = f"mosaic-test-{os.getpid()}-{folder.name[-8:]}"
        for name in ("runtime", "tmux", "user"):
            (folder / name).mkdir(mode=0o700)
        # MOSAIC_TEST_FOLDER stays: by it the next run knows what a killed one left behind.
        clean = {key: value for key, value in os.environ.items() if key == VARIABLE or not key.startswith("MOSAIC_")}
        self.environment = clean | {
            "MOSAIC_HOME": str(self.home.root),
            "XDG_RUNTIME_DIR": str(folder / "runtime"),
            "TMUX_TMPDIR": str(folder / "tmux"),
            "HOME": str(folder / "user"),
            "SHELL": "/bin/bash",
        }

    def mosaic(self, *arguments: str, stdin: str = "", home: Path | None = None) -> subprocess.CompletedProcess[str]:
        environment = self.environment | ({"MOSAIC_HOME": str(home)} if home else {})
        return _run("mosaic_cli.main", *arguments, stdin=stdin, environment=environment)

    def controlplane(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a verb of `mosaic-controlplane` here."""
        return _run("mosaic_controlplane.main", *arguments, environment=self.environment)

    def up(self) -> None:
        done = self.mosaic("up", "--enrol-port", "0", "--fleet-port", "0")
        assert done.returncode == 0, done.stderr + self.logs()

    def apply(self, *names: str) -> None:
        roster = self.home.root / "roster.yaml"
        agents = [{"name": name, "runtime": "shell", "working_directory": "/tmp"} for name in names]
        tmux = {"socket_name": self.socket_name}
        roster.write_text(json.dumps({"version": 1, "transport": "tmux", "tmux": tmux, "agents": agents}))
        done = self.mosaic("fleet", "apply", "--roster", str(roster), "--yes")
        assert done.returncode == 0, done.stderr + self.logs()

    def json(self, *arguments: str) -> Any:
        """Run a command that prints JSON, and return what it printed."""
        done = self.mosaic(*arguments, "-o", "json")
        assert done.stdout, f"mosaic {' '.join(arguments)} ended with {done.returncode}: {done.stderr}{self.logs()}"
        return json.loads(done.stdout)

    def pid(self, name: str) -> int:
        return int(json.loads((self.home.run / f"{name}.pid").read_text())["pid"])

    def logs(self) -> str:
        return "".join(f"\n== {path}\n{path.read_text()[-2000:]}" for path in self.home.logs.glob("*.log"))

    def processes(self) -> list[psutil.Process]:
        """Every process that names this home, and this test's tmux server."""
        found = []
        for process in psutil.process_iter():
            try:
                words = process.cmdline()
                if process.environ().get("MOSAIC_HOME") == str(self.home.root) or self.socket_name in words:
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def close(self) -> None:
        self.mosaic("down", "--yes")
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):  # it has ended since it was looked for
                process.kill()
        identity = self.home.state / "postgres-id"
        if os.geteuid() == 0 and identity.exists():
            shutil.rmtree(f"/var/lib/mosaic/{self.home.digest}-{identity.read_text().strip()}", ignore_errors=True)


def clear_abandoned() -> None:
    """End what test runs that were killed left running: their folder went when this run began."""
    for process in psutil.process_iter():
        try:
            environment = process.environ()
        except psutil.Error:
            continue
        folder = environment.get(VARIABLE)
        if MARK in environment and folder and not Path(folder).exists():
            end([item.process for item in marked_processes(Home(Path(environment["MOSAIC_HOME"])))], grace=10)


def _run(
    module: str, *arguments: str, environment: dict[str, str], stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        timeout=150,
    )
