"""What the main processes of our units share. Only the standard library: there is one such process for each agent."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence

from mosaic_hostagent.environment import inheritable
from mosaic_hostagent.terminal import turn
from mosaic_hostagent.terminal.quoting import command_line

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing costs a megabyte a process
    from typing import NoReturn

AGAIN = 75
"""Exit status that lets systemd start the unit again (`Restart=on-failure`); EX_TEMPFAIL of sysexits.h."""
_TMUX_SECONDS = 15.0


class TmuxFailed(Exception):
    """tmux refused, or there is no server."""


def tell(text: str) -> None:
    """Write a line for systemd's journal."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def leave(status: int) -> NoReturn:
    """End at once. When many agents die together, the host-agent needs the machine more than our taking leave does."""
    sys.stderr.flush()
    os._exit(status)


class Asked:
    """What this process was asked to do by a signal: SIGTERM `stop`, SIGUSR1 `let_go`."""

    def __init__(self) -> None:
        self.stop = self.let_go = False
        self._reading, writing = os.pipe()
        os.set_blocking(writing, False)
        signal.set_wakeup_fd(writing)
        signal.signal(signal.SIGTERM, lambda *_: setattr(self, "stop", True))
        signal.signal(signal.SIGINT, lambda *_: setattr(self, "stop", True))
        signal.signal(signal.SIGUSR1, lambda *_: setattr(self, "let_go", True))

    @property
    def anything(self) -> bool:
        """Whether this process should end."""
        return self.stop or self.let_go

    def wait(self, *, process: int | None = None, seconds: float | None = None) -> bool:
        """Wait for the end of a process, a signal, or the time; say whether the process has ended."""
        handle = -1
        if process is not None:
            try:
                handle = os.pidfd_open(process)
            except ProcessLookupError:
                return True
        deadline = None if seconds is None else time.monotonic() + seconds
        try:
            while not self.anything:
                left = None if deadline is None else max(0.0, deadline - time.monotonic())
                watched = [self._reading] if handle < 0 else [self._reading, handle]
                ready, _, _ = select.select(watched, [], [], left)
                if handle in ready:
                    return True
                if self._reading in ready:
                    os.read(self._reading, 64)
                elif not ready:
                    return False
            return False
        finally:
            if handle >= 0:
                os.close(handle)


class Tmux:
    """A tmux server, by one short client a call. None of them ever starts the server, but for `start_server`."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], turn_path: str = "") -> None:
        self._command = [*command, "-u"]
        self._turn_path = turn_path
        self._environment = dict(environment)

    def ask(self, *words: str) -> list[str]:
        """Run one command and return its lines. Raises TmuxFailed."""
        return self._run([*self._command, "-N", *words], "")

    def run(self, commands: Iterable[Sequence[str]]) -> list[str]:
        """Run commands as one line, by standard input: what they carry is in no argument. Raises TmuxFailed."""
        return self._run([*self._command, "-N", "source-file", "-"], " ; ".join(map(command_line, commands)) + "\n")

    def change(self, commands: Iterable[Sequence[str]]) -> list[str]:
        """Run commands that begin or end a session, as `run` does, while no client of the host-agent attaches."""
        with turn.taken(self._turn_path):
            return self.run(commands)

    def start_server(self, options: Sequence[str], commands: Iterable[Sequence[str]]) -> None:
        """Run commands, starting the server should there be none. Raises TmuxFailed."""
        words = [word for part in commands for word in (*part, ";")][:-1]
        self._run([*self._command, *options, *words], "")

    def _run(self, argv: list[str], text: str) -> list[str]:
        try:
            done = subprocess.run(
                argv,
                input=text.encode(),
                capture_output=True,
                timeout=_TMUX_SECONDS,
                check=False,
                cwd="/",
                env=self._environment,
                start_new_session=True,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise TmuxFailed(str(error)) from None
        if done.returncode:
            raise TmuxFailed((done.stderr or done.stdout).decode("utf-8", "replace").strip()[:500])
        return done.stdout.decode("utf-8", "replace").splitlines()


def tmux_environment(tmpdir: str) -> dict[str, str]:
    """Return the environment of our tmux processes: without what is ours, or leads to another tmux."""
    environment = inheritable(os.environ)
    return {**environment, "TMUX_TMPDIR": tmpdir} if tmpdir else environment


def read_json(path: str) -> dict[str, object]:
    """Return the object in a file; an empty one when there is none."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - pathlib costs a megabyte a process
            found = json.load(file)
    except FileNotFoundError:
        return {}
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds no object")
    return found


def write_json(path: str, content: Mapping[str, object]) -> None:
    """Replace a private file, as a whole whatever happens."""
    handle = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump(content, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(f"{path}.new", path)  # noqa: PTH105 - see read_json
