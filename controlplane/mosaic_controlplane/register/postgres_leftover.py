"""Ends what an earlier server of the same data directory left running, so that a new one may start at once."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from pathlib import Path

import psutil

from mosaic_controlplane.register.postgres_account import EmbeddedDatabaseFailed

FAST_SECONDS = 30.0  # a checkpoint may be large
IMMEDIATE_SECONDS = 10.0


def processes_of(data: Path) -> list[psutil.Process]:
    """Return the living PostgreSQL processes that work in `data`: every one of them has it as its folder."""
    folder = str(data.resolve())
    found = []
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and process.cwd() == folder:
                found.append(process)
        except psutil.Error:  # gone meanwhile, or another user's, which is never ours
            continue
    return found


def end_at_once(processes: Sequence[psutil.Process]) -> None:
    """Kill what is still making a data directory that will be thrown away. Never for a server's."""
    _signal(processes, signal.SIGKILL)
    psutil.wait_procs(processes, timeout=IMMEDIATE_SECONDS)


def clear_leftover(data: Path) -> int | None:
    """Stop a server that still runs on `data`, and remove a pid file that names none. Returns the stopped one's pid.

    The caller holds the home's lock, so such a server has lost whoever watched it. It is stopped, not adopted: a
    server is always the child of its `mosaic-controlplane database`, which then hears of its end at once.
    Raises EmbeddedDatabaseFailed when it will not stop; a server is never killed with SIGKILL.
    """
    pid_file = data / "postmaster.pid"
    if not pid_file.exists():
        return None
    living = processes_of(data)
    postmaster = [process for process in living if process.pid == _pid_in(pid_file)]
    if postmaster:
        _signal(postmaster, signal.SIGINT)  # "fast": ends sessions, writes a checkpoint
        _, living = psutil.wait_procs(living, timeout=FAST_SECONDS)
    # Without a postmaster its children end by themselves; SIGQUIT makes all of them end without a checkpoint.
    _, living = psutil.wait_procs(living, timeout=0 if postmaster else 1.0)
    _signal(living, signal.SIGQUIT)
    _, living = psutil.wait_procs(living, timeout=IMMEDIATE_SECONDS)
    if living:
        pids = ", ".join(str(process.pid) for process in living)
        raise EmbeddedDatabaseFailed(
            f"an earlier database server still works in {data}",
            why=f"process {pids} does not end",
            next_step=f"look at it: ps -fp {pids.replace(' ', '')}",
        )
    # Nobody works here: a pid that another program has by now must not stop the next start.
    pid_file.unlink(missing_ok=True)
    return postmaster[0].pid if postmaster else None


def _pid_in(pid_file: Path) -> int | None:
    try:
        return int(pid_file.read_text().splitlines()[0])
    except (OSError, ValueError, IndexError):
        return None


def _signal(processes: Sequence[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        try:
            process.send_signal(number)
        except psutil.NoSuchProcess:
            continue
