"""Starting the supervisor, and waiting until what it keeps is running."""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

from mosaic_framework.errors import FleetError, Unfinished
from mosaic_framework.paths import Home, private_folder

from mosaic_cli.machine.control import ServiceState, control, supervisor
from mosaic_cli.machine.services import MARK, Plan

STARTS_WITHIN = 10.0
_GIVE_UP_AFTER = 3
"""Failures in a row after which waiting for a service makes no sense: what stops it will not pass by itself."""


class ServiceFails(FleetError):
    """A background process does not start."""

    code = "service-fails"


class SupervisorFails(FleetError):
    """The supervisor does not start."""

    code = "supervisor-fails"


@contextlib.contextmanager
def alone(home: Home) -> Iterator[None]:
    """Let one `up`, `down` or `join` of a home happen at a time; a second one waits its turn."""
    private_folder(home.run)
    lock = os.open(home.run / "command.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def ensure_supervisor(home: Home) -> bool:
    """Start the supervisor, detached, unless it runs. Returns whether it was started. Raises SupervisorFails."""
    if supervisor(home) is not None:
        return False
    private_folder(home.logs)
    path = home.logs / "supervisor.log"
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    # Started from inside a tmux session it must not take that session for its own.
    environment = {key: value for key, value in os.environ.items() if key not in ("TMUX", "TMUX_PANE")}
    environment |= {"MOSAIC_HOME": str(home.root), MARK: "supervisor"}
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "mosaic_cli.supervisor"],
            stdin=subprocess.DEVNULL,
            stdout=handle,
            stderr=handle,
            env=environment,
            cwd=home.root,
            start_new_session=True,
        )
    finally:
        os.close(handle)
    deadline = time.monotonic() + STARTS_WITHIN
    while time.monotonic() < deadline:
        with control(home) as connection:
            if connection is not None:
                return True
        # Its socket appears when it is ready; waiting for its end is the pause between two looks.
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.05)
            raise SupervisorFails(
                f"the supervisor ended at once with status {process.returncode}",
                why=last_words(path.read_text("utf-8", "replace")),
                next_step=f"look into {path}",
            )
    raise SupervisorFails(f"the supervisor does not answer after {STARTS_WITHIN:.0f} s", next_step=f"look into {path}")


def wait_until_running(
    home: Home,
    plan: Plan,
    *,
    deadline: float,
    only: tuple[str, ...] = (),
    afresh: str = "",
    tell: Callable[[ServiceState], None] = lambda _state: None,
) -> None:
    """Wait until the services of `plan` (or `only` those) run. `tell` hears of every change.

    `afresh` is a service to restart first, should it run.
    Raises ServiceFails with the service's last words when it fails again and again, Unfinished at the deadline.
    """
    names = only or plan.services
    waiting: list[str] = list(names)
    with control(home) as connection:
        if connection is None:
            raise SupervisorFails("the supervisor does not answer", next_step="mosaic status")
        connection.look()
        old_pid: int | None = None
        for round_, states in enumerate(connection.states(deadline)):
            if round_ == 0 and afresh:
                old_pid = next((state.pid for state in states if state.name == afresh), None)
                connection.restart(afresh)
            for state in states:
                tell(state)
                if state.name in names and state.failures_in_a_row >= _GIVE_UP_AFTER:
                    raise service_fails(home, state)
            waiting = [
                state.name
                for state in states
                if state.name in names and (state.state != "running" or state.pid == old_pid)
            ]
            if not waiting:
                return
    raise Unfinished(
        f"{', '.join(waiting)} not running yet; it goes on",
        why="it takes longer than --timeout",
        next_step="mosaic status",
    )


def service_fails(home: Home, state: ServiceState) -> ServiceFails:
    """Return the error for a service that ends again and again."""
    path = home.logs / f"{state.name}.log"
    words = last_words(path.read_text("utf-8", "replace")) if path.exists() else ""
    return ServiceFails(
        f"the {state.name} does not start (status {state.last_exit})",
        why=words,
        next_step=f"tail -n 30 {path}",
        details={"service": state.name},
    )


def last_words(log: str) -> str:
    """Return the most telling of a log's last lines: the last error, without its code, else simply the last line."""
    lines = [line for line in log.splitlines()[-40:] if line.strip()]
    for position in range(len(lines) - 1, -1, -1):
        if lines[position].startswith("error: "):
            told = [line.partition(":")[2].strip() for line in lines[position : position + 2]]
            return "; ".join(told)
    return lines[-1][:300] if lines else ""
