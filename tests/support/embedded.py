"""`mosaic-controlplane database` as tests run it: a process of its own, followed by what it says."""

from __future__ import annotations

import json
import os
import pwd
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

# As root the server is nobody's, so that a test run adds no user to the machine.
_PROGRAM = """
import sys
from pathlib import Path
from mosaic_framework.errors import FleetError
from mosaic_framework.paths import Home
from mosaic_controlplane.register.embedded import run_foreground
try:
    sys.exit(run_foreground(Home(Path(sys.argv[1])), shared=Path(sys.argv[2]), user=sys.argv[3]))
except FleetError as error:
    sys.exit(f"{error.code}: {error.what}: {error.why}")
"""


class Foreground:
    """One run. `log` is all that it has said so far."""

    def __init__(self, process: subprocess.Popen[str], home: Path) -> None:
        self.process = process
        self.home = home
        self.log = ""

    def until(self, words: str) -> None:
        """Read what it says until `words` come; fails when it ends before."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.log += line
            if words in line:
                return
        raise AssertionError(f"it ended without saying {words!r}:\n{self.log}")

    def ready(self) -> dict[str, Any]:
        """Wait until it serves, and return run/database.json."""
        self.until("database ready")
        return dict(json.loads((self.home / "run" / "database.json").read_text()))

    def end(self) -> int:
        """Wait for its end and return its exit code."""
        rest, _ = self.process.communicate(timeout=60)
        self.log += rest
        return self.process.returncode

    def stop(self) -> int:
        """Stop it as a supervisor does, and return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.end()


class EmbeddedHome:
    """One `$MOSAIC_HOME` in `folder`, run as often as a test likes; `shared` is where root's servers live."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "home"
        self.shared = folder / "shared"
        self.user = "nobody" if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name

    @property
    def data(self) -> Path:
        """The data directory of the home's database, once there is one."""
        identity = self.path / "state" / "postgres-id"
        if not identity.exists():
            return self.path / "state" / "postgres"
        return next(self.shared.glob(f"*-{identity.read_text()}")) / "postgres"

    @contextmanager
    def run(self) -> Iterator[Foreground]:
        """Run it; whatever the test leaves of it is killed."""
        process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, str(self.path), str(self.shared), self.user],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        children: list[psutil.Process] = []
        try:
            yield Foreground(process, self.path)
        finally:
            if process.poll() is None:
                children = psutil.Process(process.pid).children(recursive=True)
            process.kill()
            process.communicate()
            for child in children:
                if child.is_running():
                    child.kill()
