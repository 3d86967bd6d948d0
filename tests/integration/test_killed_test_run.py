"""A test run that is killed leaves a server and a folder; the next one ends and removes them."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from mosaic_controlplane.register.postgres_leftover import processes_of

from tests.support.checkout import ROOT

# A run of pytest in small: it makes its folder and a server in it, says where, and waits to be killed.
RUN = """
from tests.support import run_folder
from tests.support.postgres import shared_databases
run_folder.make()
with shared_databases(run_folder.current()) as databases:
    databases.create()
    print(run_folder.current(), flush=True)
    input()
run_folder.remove()
"""


def start() -> tuple[subprocess.Popen[str], Path]:
    run = subprocess.Popen(
        [sys.executable, "-c", RUN], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert run.stdout is not None
    for line in run.stdout:
        if line.startswith("/tmp/"):
            return run, Path(line.strip())
    raise AssertionError("it ended without a server")


def test_what_a_killed_run_left_is_cleared_by_the_next_and_a_living_run_is_let_be() -> None:
    killed, left = start()
    living, kept = start()
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert processes_of(left / "postgres")
    next_run, folder = start()
    assert not left.exists()
    assert processes_of(left / "postgres") == []
    assert processes_of(kept / "postgres")
    for run in (living, next_run):
        run.communicate("\n", timeout=60)
        assert run.returncode == 0
    assert not kept.exists()
    assert not folder.exists()
