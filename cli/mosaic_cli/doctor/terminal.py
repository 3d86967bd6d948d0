"""tmux: its version, and what can go wrong with the servers that seats live on."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mosaic_framework.paths import Home

from mosaic_cli.doctor.finding import NOTE, WELL, WRONG, Finding
from mosaic_cli.doctor.folders import tmux_servers
from mosaic_cli.machine.tmux import check_tmux

_WITHIN = 5.0


@dataclass(frozen=True, slots=True)
class Server:
    """One tmux server: what it says its version is, or why it says nothing; whether a process of it lives."""

    name: str
    folder: str
    version: str = ""
    problem: str = ""
    pid: int = 0
    silent: bool = False
    """its socket is there, and nothing came within 5 s"""

    @property
    def command(self) -> str:
        """How a person reaches it."""
        folder = f"TMUX_TMPDIR={self.folder} " if self.folder else ""
        return f"{folder}tmux{f' -L {self.name}' if self.name else ''}"


def check(home: Home) -> Iterator[Finding]:
    """Look at tmux and the servers in use. Raises TmuxUnfit."""
    ours = check_tmux()
    yield Finding("tmux", WELL, ours)
    for row in tmux_servers(home):
        finding = judge(_look(row["socket_name"], row["tmux_tmpdir"]), ours)
        if finding is not None:
            yield finding


def judge(server: Server, ours: str) -> Finding | None:
    """Say what is wrong with a server; nothing when it does not run, which is its host-agent's to say."""
    name = server.name or "default"
    if "protocol version mismatch" in server.problem:
        text = f"the tmux server {name!r} is of another version than tmux {ours} here, and does not speak with it"
        return Finding("tmux", WRONG, text, "mosaic fleet stop --all; end that server; mosaic fleet start --all")
    if server.pid and server.silent:
        text = f"the tmux server {name!r} (process {server.pid}) runs, and does not answer"
        repair = f"kill -CONT {server.pid} (it may be paused); in vain: kill -9 {server.pid}, which ends its sessions"
        return Finding("tmux", WRONG, text, repair)
    if server.pid and server.problem:
        text = (
            f"the tmux server {name!r} (process {server.pid}) runs, and its socket is gone: nobody reaches its sessions"
        )
        return Finding("tmux", WRONG, text, f"kill -USR1 {server.pid} (it makes its socket anew)")
    if server.version and server.version != ours:
        text = f"the tmux server {name!r} still runs {server.version}; this is {ours}"
        return Finding("tmux", NOTE, text, "at a quiet time: mosaic fleet stop --all; mosaic fleet start --all")
    return None


def _look(name: str, folder: str) -> Server:
    environment = {key: value for key, value in os.environ.items() if key not in ("TMUX", "TMUX_PANE", "TMUX_TMPDIR")}
    if folder:
        environment["TMUX_TMPDIR"] = folder
    command = ["tmux", *(["-L", name] if name else []), "display-message", "-p", "#{version}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_WITHIN, check=False, env=environment)
    except subprocess.TimeoutExpired as error:
        return Server(name, folder, problem=str(error), pid=_process_of(name, folder), silent=True)
    except OSError as error:
        return Server(name, folder, problem=str(error), pid=_process_of(name, folder))
    if done.returncode:
        return Server(name, folder, problem=" ".join(done.stderr.split()), pid=_process_of(name, folder))
    return Server(name, folder, version=done.stdout.strip())


def _process_of(name: str, folder: str) -> int:
    """Return the server whose socket is, or was, there; 0 when there is none."""
    import psutil

    wanted = str(Path(folder or "/tmp") / f"tmux-{os.getuid()}" / (name or "default"))  # noqa: S108 - tmux's choice
    for process in psutil.process_iter():
        try:
            if not process.name().startswith("tmux"):
                continue
            if any(str(item.laddr) == wanted for item in process.net_connections(kind="unix")):
                return int(process.pid)
        except psutil.Error:
            continue
    return 0
