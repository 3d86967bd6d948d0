"""The main process of `mosaic-holder@`: starts a tmux server with our holder session on it, and waits for its end.

    python -I -m mosaic_hostagent.units.holder MOSAIC_HOME SOCKET

Reads `state/holders/SOCKET.json`, which the host-agent writes. SIGTERM ends the holder session, and with it a server
that has no other; SIGUSR1 leaves all as it is.
"""

from __future__ import annotations

import os
import sys

from mosaic_framework.notify import notify

from mosaic_hostagent.terminal.starting import holder_commands
from mosaic_hostagent.units.plain import (
    AGAIN,
    Asked,
    Tmux,
    TmuxFailed,
    leave,
    read_json,
    tell,
    tmux_environment,
)

FOLDER = "holders"


def main(home: str, instance: str) -> int:
    """Hold the server until it ends or we are asked to stop. Returns the exit status."""
    asked = Asked()
    wish = read_json(f"{home}/state/{FOLDER}/{instance}.json")
    if not wish:
        tell(f"no tmux server {instance!r} is wanted here")
        return 0
    holder, digest = str(wish["holder"]), str(wish["home"])
    socket_name = str(wish["socket_name"])
    command = ["tmux", "-L", socket_name] if socket_name else ["tmux"]
    tmux = Tmux(command, tmux_environment(str(wish["tmux_tmpdir"])))
    try:
        if _owner(tmux, holder) is None:
            options = ["-f", os.devnull] if socket_name else []
            tmux.start_server(options, holder_commands(holder, home=digest, own_server=bool(socket_name)))
        if _owner(tmux, holder) != digest:
            tell(f"a session named {holder!r} is there and is not this fleet's")
            return 1
        (pid,) = tmux.ask("display-message", "-p", "#{pid}")
    except TmuxFailed as failed:
        tell(f"the tmux server could not be started: {failed}")
        return AGAIN
    notify("READY=1", f"STATUS=tmux server {pid}")
    if asked.wait(process=int(pid)):
        tell(f"the tmux server {pid} has ended")
        return AGAIN
    if asked.stop and not asked.let_go:
        try:
            if _owner(tmux, holder) == digest:
                tmux.ask("kill-session", "-t", f"={holder}:")
        except TmuxFailed as failed:
            tell(f"the holder session could not be ended: {failed}")
    return 0


def _owner(tmux: Tmux, holder: str) -> str | None:
    """Return the home that marked the holder session, "" for nobody's, None where there is no such session."""
    try:
        (line,) = tmux.ask("display-message", "-p", "-t", f"={holder}:", "#{session_name}\t#{@mosaic_home}")
    except (TmuxFailed, ValueError):
        return None
    name, _, owner = line.partition("\t")
    return owner if name == holder else None


if __name__ == "__main__":
    leave(main(*sys.argv[1:3]))
