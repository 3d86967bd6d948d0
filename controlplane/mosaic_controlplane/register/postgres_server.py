"""A PostgreSQL server as a child of this process: started, waited for, stopped, and never left behind."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable

from mosaic_controlplane.register.postgres_account import EmbeddedDatabaseFailed
from mosaic_controlplane.register.postgres_cluster import Cluster, failure_line, is_disk_full

_READY = "database system is ready to accept connections"
_PR_SET_PDEATHSIG = 1


class ServerProcess:
    """The server of `cluster`. Start it from the main thread: Linux ends it when the thread that started it ends.

    Its log goes to our standard error, line by line (`echo`); the last lines are kept to say why it failed.
    """

    def __init__(self, cluster: Cluster, *, echo: bool = True) -> None:
        self.cluster = cluster
        self._echo = echo
        self._ready = False
        self._tail: deque[str] = deque(maxlen=20)
        self._told = threading.Event()  # it is ready, or its log has ended
        self._process = subprocess.Popen(
            cluster.command(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd=cluster.data,
            env=cluster.account.environment(),
            # A group of its own: Ctrl-C at a terminal reaches us, and we end it in order.
            process_group=0,
            # This process has no other thread yet, which is what makes running Python after fork safe.
            preexec_fn=_die_with_parent(),
            text=True,
            errors="replace",
            **cluster.account.identity(),
        )
        self._reader = threading.Thread(target=self._read_log, name="postgres-log", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """The postmaster's process id."""
        return self._process.pid

    def wait_until_ready(self) -> None:
        """Return when it accepts connections, however long recovery after a crash takes (it logs its progress).

        Raises EmbeddedDatabaseFailed when it ends instead.
        """
        self._told.wait()
        if not self._ready:
            self._process.wait()
            raise self.failure("the database server did not start")

    def stop(self, *, immediate: bool = False) -> None:
        """Ask it to end: sessions are cut and a checkpoint is written; `immediate` leaves that to the next start."""
        self._process.send_signal(signal.SIGQUIT if immediate else signal.SIGINT)

    def wait(self) -> int:
        """Wait for its end and return its exit code: 0 after a stop in order."""
        code = self._process.wait()
        self._reader.join(timeout=5)
        return code

    def failure(self, what: str) -> EmbeddedDatabaseFailed:
        """Return the error that tells `what`, and why by the server's own last words."""
        complaint = failure_line("".join(self._tail))
        code = self._process.returncode
        next_step = f"df -h {self.cluster.data}" if is_disk_full(complaint) else "read the log above, then: mosaic up"
        return EmbeddedDatabaseFailed(what, why=complaint or f"it ended with {code}", next_step=next_step)

    def _read_log(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._tail.append(line)
            if _READY in line:
                self._ready = True
                self._told.set()
            if not self._echo:
                continue
            try:
                sys.stderr.write(line)
                sys.stderr.flush()
            except (OSError, ValueError):
                continue  # nobody reads our log any more; the server must not block on a full pipe because of that
        self._told.set()


def _die_with_parent() -> Callable[[], None] | None:
    """Return what a child runs so that a SIGKILL of ours stops the server in order. Linux only: elsewhere it stays."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl  # looked up before the fork
    parent = os.getpid()

    def run() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGINT)
        if os.getppid() != parent:  # it died before the call
            os._exit(1)

    return run
