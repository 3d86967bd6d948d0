"""Control clients that a killed host-agent left behind.

tmux never lets go of a control client whose reader went away while a reply was on its way: the client's process stays,
attached, until somebody ends it.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Sequence

import psutil
import structlog

from mosaic_hostagent.terminal.control_mode import FLAGS, VIEW_FLAGS

LISTING = ("list-clients", "-F", "#{client_pid} #{client_session}")
_END_SECONDS = 2.0

log = structlog.get_logger(__name__)


async def end_stale_clients(listed: Sequence[str], holder: str) -> None:
    """End the control clients of earlier host-agents, on our holder and of views; return when they are gone.

    `listed`: what LISTING says while none of our own is attached. The caller holds the server's lock.
    """
    ended = []
    for pid, _, session in (row.partition(" ") for row in listed):
        flags = FLAGS if session == holder else VIEW_FLAGS
        with contextlib.suppress(psutil.NoSuchProcess):
            client = psutil.Process(int(pid))
            if flags in client.cmdline():  # a person's own client of this session has others
                client.send_signal(signal.SIGKILL)
                ended.append(client)
                log.warning("a control client of a dead host-agent was ended", pid=client.pid)
    if ended:
        await asyncio.to_thread(psutil.wait_procs, ended, timeout=_END_SECONDS)
