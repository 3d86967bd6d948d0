"""tmux servers of a test's own: short folders, unique sockets, and nothing left behind."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.leftovers import end_processes_of


@dataclass(frozen=True)
class PrivateTmux:
    """A folder for tmux sockets that only this test uses, and the environment that leads there."""

    folder: Path
    socket_name: str

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs so that its tmux, its locks and its shells are this test's own."""
        outside = {key: value for key, value in os.environ.items() if not key.startswith(("MOSAIC_", "TMUX"))}
        return {
            **outside,
            "TMUX_TMPDIR": str(self.folder / "tmux"),
            "XDG_RUNTIME_DIR": str(self.folder / "run"),
            "HOME": str(self.folder / "home"),
            "SHELL": "/bin/bash",
            "PS1": "$ ",
        }

    def tmux(self, *arguments: str, socket_name: str | None = None) -> str:
        """Run tmux on the test's server, and return what it says."""
        done = subprocess.run(
            ["tmux", "-L", self.socket_name if socket_name is None else socket_name, *arguments],
            capture_output=True,
            text=True,
            check=False,
            env=self.environment,
        )
        return done.stdout + done.stderr


@contextmanager
def private_tmux() -> Iterator[PrivateTmux]:
    """Give a test its own tmux world, and end every server in it."""
    folder = Path(tempfile.mkdtemp(prefix="mt-", dir="/tmp"))  # a socket path holds 108 bytes
    for name in ("tmux", "run", "home"):
        (folder / name).mkdir(mode=0o700)
    private = PrivateTmux(folder, f"t{uuid.uuid4().hex[:8]}")
    try:
        yield private
    finally:
        for socket in (folder / "tmux").glob("*/*"):
            subprocess.run(
                ["tmux", "-S", str(socket), "kill-server"], capture_output=True, check=False, env=private.environment
            )
        end_processes_of(folder)  # a program that ignores SIGHUP outlives its terminal
        shutil.rmtree(folder, ignore_errors=True)
