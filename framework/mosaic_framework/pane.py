"""What a seat's program is told of its host-agent: the names of its variables, and how it proves which session it is.

A session's token attributes: it says which run speaks. The boundary on a machine is the Unix user.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

SOCKET = "MOSAIC_AGENT_SOCKET"
"""Path of the host-agent's unix socket."""
TOKEN = "MOSAIC_AGENT_TOKEN"  # noqa: S105 - the variable's name
"""The session's own random token: 64 hex digits."""
AGENT = "MOSAIC_AGENT"
"""The seat's address, host/agent."""
RUN = "MOSAIC_RUN"
"""The id of the run."""
HEARTBEAT = "MOSAIC_HEARTBEAT_FILE"
"""Where a program without hooks may write `ts=`, `pid=` and `status=` lines."""
SPOOL = "MOSAIC_REPORT_SPOOL"
"""Where the reporter keeps what it could not deliver."""
LETTERBOX = "MOSAIC_LETTERBOX"
"""Path of the unix socket at which a program that can take messages without keystrokes listens for them."""

TOKEN_KEY = "mosaic-session-token"  # noqa: S105
"""Metadata with which a program in a pane says which session it is."""

REPORT_SUFFIX = ".report"
"""What the path of the socket for reports has behind that of MOSAIC_AGENT_SOCKET."""

TOKEN_PATTERN = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Pane:
    """The seat that this process runs in, as its environment says."""

    socket: str
    token: str
    agent: str
    run_id: str

    @property
    def report_socket(self) -> str:
        """Where signals and reports go, one a connection."""
        return self.socket + REPORT_SUFFIX

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Pane | None:
        """Return the seat of this process, or None outside of one."""
        socket = environment.get(SOCKET, "")
        if not socket:
            return None
        token = environment.get(TOKEN, "")
        if not TOKEN_PATTERN.fullmatch(token):
            token = ""  # refused like none; what is no token is not sent about
        return cls(socket, token, environment.get(AGENT, ""), environment.get(RUN, ""))
