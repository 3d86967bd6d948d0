"""Ends what an earlier server of the same data directory left running, so that a new one may start at once."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from mosaic_controlplane.register.postgres_account import EmbeddedDatabaseFailed

FAST_SECONDS = 30.0  # a checkpoint may be large
IMMEDIATE_SECONDS = 10.0
ORPHAN_SECONDS = 1.0  # what processes get to notice by themselves that their postmaster is gone


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
    _not_ended(processes, IMMEDIATE_SECONDS)


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
        living = _not_ended(living, FAST_SECONDS)
    # Without a postmaster its children end by themselves; SIGQUIT makes all of them end without a checkpoint.
    living = _not_ended(living, 0 if postmaster else ORPHAN_SECONDS)
    _signal(living, signal.SIGQUIT)
    living = _not_ended(living, IMMEDIATE_SECONDS)
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


def _not_ended(processes: Sequence[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Wait up to `seconds` for all of them to end, and return those that have not.

    They are not our children. A dead one that nobody has reaped yet has ended: psutil's own wait would go on.
    """
    if not hasattr(os, "pidfd_open"):  # macOS, where psutil waits on a kqueue
        return list(psutil.wait_procs(processes, timeout=seconds)[1])
    deadline = time.monotonic() + seconds
    return [process for process in processes if not _ended_by(process, deadline)]


def _ended_by(process: psutil.Process, deadline: float) -> bool:
    try:
        handle = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return True
    try:
        if not process.is_running():  # another process has its id by now
            return True
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        return bool(poll.poll(max(0.0, deadline - time.monotonic()) * 1000))
    finally:
        os.close(handle)
