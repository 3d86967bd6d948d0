"""What can go wrong with tmux, in words for a person."""

from __future__ import annotations

from mosaic_framework.errors import Conflict, FleetError


class TmuxMissing(FleetError):
    """tmux is not installed on this host."""

    code = "tmux-missing"
    hint = "install it: apt-get install tmux, or brew install tmux"


class TmuxTooOld(FleetError):
    """tmux is too old on this host."""

    code = "tmux-too-old"
    hint = "install tmux 3.2 or newer"


class TmuxServerHeld(Conflict):
    """Another host-agent drives this tmux server."""

    code = "tmux-server-held"
    hint = "stop the other one, or give this fleet a tmux.socket_name of its own in its roster"


class TerminalLost(FleetError):
    """The connection to the tmux server was lost."""

    code = "terminal-lost"


class TmuxRefused(FleetError):
    """tmux refused a command."""

    code = "tmux-refused"


class SessionNameTaken(Conflict):
    """A tmux session of that name is there and is not ours."""

    code = "session-name-taken"
