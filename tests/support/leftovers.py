"""Ends what a test's programs left behind: whatever has the test's own folder in its environment."""

from __future__ import annotations

import os
from pathlib import Path

import psutil


def end_processes_of(folder: Path) -> None:
    """kill -9 every process whose runtime folder lies in `folder`, which only this test has used."""
    runtime = str(folder / "run")
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get("XDG_RUNTIME_DIR") == runtime:
                process.kill()
        except psutil.Error:
            continue  # ended meanwhile, or the kernel's
