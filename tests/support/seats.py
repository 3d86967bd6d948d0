"""What tests ask of seats on a real tmux: who sits in them, what runs, what was told."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
from mosaic_hostagent.seats import Session
from mosaic_proto.v1 import host_link_pb2 as pb

from tests.support.hostagent import World, eventually

EXITED = pb.SeatReport(state="AGENT_STATE_EXITED").state


def sessions(world: World) -> list[str]:
    return sorted(world.private.tmux("list-sessions", "-F", "#{session_name}").split())


def server_pid(world: World) -> str:
    return world.private.tmux("display-message", "-p", "#{pid}").strip()


def last(world: World, name: str) -> pb.SeatReport:
    return next(report for report in reversed(world.reports) if report.name == name)


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def nap(number: int) -> list[str]:
    """A command line that only this process of the test run uses, so that no test counts another's."""
    return ["sleep", f"{number}.{os.getpid()}"]


def running(*argv: str) -> int:
    """How many processes with exactly this command line there are."""
    found = 0
    for process in psutil.process_iter(["cmdline", "status"]):
        found += process.info["cmdline"] == list(argv) and process.info["status"] != psutil.STATUS_ZOMBIE
    return found


def _is_a_launcher(pid: int) -> bool:
    """Whether it is still what tmux forked, or the shell that sets a program's variables and then becomes it."""
    try:
        words = psutil.Process(pid).cmdline()
    except psutil.Error:
        return False
    return not words or Path(words[0]).name.startswith("tmux") or any('exec "$@"' in word for word in words)


async def sits(world: World, name: str, *, not_run: str = "") -> Session:
    """Wait until a program sits in the seat, in another run than `not_run`; return its session."""

    def there() -> bool:
        found = [one for one in world.supervisor.residents.values() if one.seat.name == name]
        if not found or not found[0].alive or found[0].run_id == not_run:
            return False
        return found[0].session is not None and not _is_a_launcher(found[0].session.pid)

    await eventually(there, f"a program sits in {name}; told: {[str(report) for report in world.reports[-3:]]}")
    session = world.resident(name).session
    assert session is not None
    return session
