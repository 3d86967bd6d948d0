"""`mosaic status` beside a supervisor that was stopped: it says so, and what helps."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from mosaic_cli.machine.control import pid_file
from mosaic_cli.machine.processes import Process, record
from mosaic_cli.status_view import status_listing
from mosaic_framework.paths import Home


@pytest.fixture
def stopped() -> Iterator[int]:
    process = subprocess.Popen(["sleep", "60"])
    process.send_signal(signal.SIGSTOP)
    yield process.pid
    process.kill()
    process.wait()


def test_a_supervisor_that_was_stopped_is_silent_and_down_is_what_helps(tmp_path: Path, stopped: int) -> None:
    home = Home(tmp_path)
    process = Process.running(stopped)
    assert process is not None
    record(pid_file(home, "supervisor"), process)
    listing, well, note = status_listing(home)
    assert not well
    assert listing.rows[0].state == "silent"
    assert f"pid {stopped}" in note
    assert "mosaic down" in note
