"""Our programs as processes that are there at once: a server that has them imported forks for each.

To import one costs half a second of a core, and the tests start hundreds. What runs is the same program, by the same
launcher, in its own process with its own environment, folder and files; only its command line is the server's. Who
measures memory, or is asked what a command line says, starts a program of its own.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

PROGRAMS = {"mosaic-controlplane": "mosaic_controlplane.main", "mosaic-hostagent": "mosaic_hostagent.main"}
_REQUEST_BYTES = 160 * 1024

_allowed = False
_server: Server | None = None


class ForkedProcess:
    """What subprocess.Popen would give, as far as tests use it."""

    def __init__(self, pid: int, ended: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._ended = ended

    def poll(self) -> int | None:
        """Return the exit status, a signal's as its negative number; None while it runs."""
        return self._look(0.0)

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit status when it has ended. Raises subprocess.TimeoutExpired."""
        if (status := self._look(timeout)) is None:
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0.0)
        return status

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _look(self, timeout: float | None) -> int | None:
        if self.returncode is None:
            readable, _, _ = select.select([self._ended], [], [], timeout)
            if readable:
                told = os.read(self._ended, 16)
                os.close(self._ended)
                assert told, "the server of forked programs is gone"
                self.returncode = int(told)
        return self.returncode


class Server:
    """The process that forks."""

    def __init__(self) -> None:
        self._requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.forked", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )

    def start(
        self, arguments: Sequence[str], *, log: IO[bytes], folder: Path, environment: Mapping[str, str]
    ) -> ForkedProcess:
        """Begin `python -m tests.support.launch ARGUMENTS`."""
        request = json.dumps({"arguments": list(arguments), "folder": str(folder), "environment": dict(environment)})
        ended, tell = os.pipe()
        try:
            socket.send_fds(self._requests, [request.encode()], [log.fileno(), tell])
        finally:
            os.close(tell)
        return ForkedProcess(int(self._requests.recv(16)), ended)

    def close(self) -> None:
        self._requests.close()
        self._process.wait()


def allow() -> None:
    """From now on programs of tests may be started by such a server."""
    global _allowed
    _allowed = True


def server() -> Server | None:
    """Return this process's server; None where each program is started by itself."""
    global _server
    if _allowed and _server is None:
        _server = Server()
    return _server


def close() -> None:
    """End the server; what it has started goes on."""
    global _server
    if _server is not None:
        _server.close()
        _server = None


def _serve(requests: socket.socket) -> bool:
    """Fork for each request, and tell of each end. True: this is a fork; False: nobody asks any more."""
    poll = select.poll()
    poll.register(requests, select.POLLIN)
    children: dict[int, tuple[int, int]] = {}
    while True:
        for handle, _event in poll.poll():
            if handle != requests.fileno():
                pid, tell = children.pop(handle)
                poll.unregister(handle)
                os.close(handle)
                _, status = os.waitpid(pid, 0)
                os.write(tell, str(os.waitstatus_to_exitcode(status)).encode())
                os.close(tell)
                continue
            request, files, _flags, _address = socket.recv_fds(requests, _REQUEST_BYTES, 2)
            if not request:
                return False
            log, tell = files
            if (pid := os.fork()) == 0:
                _become(json.loads(request), log)
                return True
            os.close(log)
            handle = os.pidfd_open(pid)
            children[handle] = (pid, tell)
            poll.register(handle, select.POLLIN)
            requests.send(str(pid).encode())


def _become(request: dict[str, object], log: int) -> None:
    """Make this fork what a process of its own would be at its start."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    for handle, name in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(handle, name)
    os.closerange(3, max(int(name.name) for name in Path("/proc/self/fd").iterdir()) + 1)
    os.environ.clear()
    os.environ.update(request["environment"])  # type: ignore[call-overload]
    time.tzset()
    os.chdir(str(request["folder"]))
    sys.argv = ["launch", *request["arguments"]]  # type: ignore[misc]
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _main() -> None:
    from tests.support import launch

    for program in PROGRAMS.values():
        importlib.import_module(program)
    gc.freeze()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    requests = socket.socket(fileno=int(sys.argv[1]))
    requests.set_inheritable(False)
    if _serve(requests):
        launch.main()


if __name__ == "__main__":
    _main()
