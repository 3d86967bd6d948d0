"""Control clients that a killed host-agent left behind.

tmux never lets go of a control client whose reader went away while a reply was on its way: the client's process stays,
attached, until somebody ends it.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal

import psutil
import structlog

from mosaic_hostagent.terminal.control_mode import FLAGS, VIEW_FLAGS, ControlMode

_END_SECONDS = 2.0

log = structlog.get_logger(__name__)


async def end_stale_clients(control: ControlMode, holder: str) -> None:
    """End the control clients of earlier host-agents, on our holder and of views; return when the server let them go.

    The caller holds the server's lock, and `attaching.others`.
    """
    holders, others = await control.run(
        ["list-clients", "-t", f"={holder}:", "-F", "#{client_pid}"], ["list-clients", "-F", "#{client_pid}"]
    )
    ended = []
    for pid in (int(row) for row in others):
        if pid == control.pid:
            continue
        flags = FLAGS if str(pid) in holders else VIEW_FLAGS
        with contextlib.suppress(psutil.NoSuchProcess):
            client = psutil.Process(pid)
            if flags in client.cmdline():  # a person's own client of this session has others
                client.send_signal(signal.SIGKILL)
                ended.append(client)
                log.warning("a control client of a dead host-agent was ended", pid=pid)
    if ended:
        await asyncio.to_thread(psutil.wait_procs, ended, timeout=_END_SECONDS)
        await control.run(["display-message", "-p", ""])  # answered when it has told the others that they left
