"""A control client on one session that says when its pane's program writes; the bytes themselves are not wanted.

tmux is told to pause the pane's output to this client at the first word of it, and to go on when the next picture is
taken. So 100 MB of output cost a few kilobytes here, and neither tmux nor this process ever queues any of it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from mosaic_hostagent.terminal.client import ControlClient
from mosaic_hostagent.terminal.control_mode import VIEW_FLAGS, Command
from mosaic_hostagent.terminal.quoting import command_line
from mosaic_hostagent.terminal.server import TmuxServer

_CHUNK = 64 * 1024


class Tap:
    """One such client. `on_output` is called once after each `rearm`, when there was output, and when it has ended."""

    def __init__(self, server: TmuxServer, client: ControlClient, pane_id: str, on_output: Callable[[], None]) -> None:
        self._server = server
        self._client = client
        self._pane_id = pane_id
        self._on_output = on_output
        self.ended = False
        self._reader = asyncio.create_task(self._read(), name="tmux-tap-reader")

    @classmethod
    async def attach(cls, server: TmuxServer, session_id: str, pane_id: str, on_output: Callable[[], None]) -> Tap:
        """Attach to the session that `pane_id` is in. Raises TerminalLost when tmux cannot be started."""
        return cls(server, await server.attach_client(session_id, VIEW_FLAGS), pane_id, on_output)

    @property
    def rearm(self) -> Command:
        """The command, for the server's command client, after which the next output is told."""
        return ["refresh-client", "-t", f"client-{self._client.pid}", "-A", f"{self._pane_id}:continue"]

    async def close(self) -> None:
        """Detach."""
        async with self._server.attaching.others():
            await self._client.end(self._reader)

    async def _read(self) -> None:
        rest = b""
        paused: set[bytes] = set()
        with contextlib.suppress(OSError):
            while data := await self._client.read(_CHUNK):
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    kind, _, about = line.partition(b" ")
                    pane = about.partition(b" ")[0]
                    if kind == b"%continue":
                        paused.discard(pane)
                    elif kind in (b"%extended-output", b"%output") and pane not in paused:
                        paused.add(pane)
                        self._pause(pane.decode("ascii", "replace"))
                rest = rest[:256]  # of a line that is not whole yet only the beginning matters
        self.ended = True
        self._on_output()

    def _pause(self, pane: str) -> None:
        """Ask for silence. Other panes that a person opened in the session stay silent for good."""
        with contextlib.suppress(OSError):
            self._client.stdin.write(f"{command_line(['refresh-client', '-A', f'{pane}:pause'])}\n".encode())
        if pane == self._pane_id:
            self._on_output()
