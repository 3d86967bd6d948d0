"""What a tmux server remembers of the messages typed into its seats.

It stands beside the journal, in another process: a journal that was restored, lost or copied does not know what was
typed since, and the terminal does. The ids of the messages are in an option of the holder session for each seat, oldest
first: it outlives the seat's own sessions.
"""

from __future__ import annotations

from collections.abc import Sequence

from mosaic_hostagent.terminal.control_mode import Command
from mosaic_hostagent.terminal.server import TmuxServer

KEPT = 500  # ids of 36 characters a seat: some 18 KB, read once a delivery


async def typed_before(server: TmuxServer, seat: str) -> Sequence[str]:
    """Return the ids of the last messages, at least KEPT, whose typing into `seat` has begun, oldest first."""
    (rows,) = await server.run(["show-options", "-qv", "-t", server.holder_target, _option(seat)])
    return rows[0].split() if rows else []


def remembering(server: TmuxServer, seat: str, known: Sequence[str], message: str) -> Command:
    """Return the command that adds `message` to `known`, what `typed_before` said. Run it with the paste, before it."""
    option = ["-t", server.holder_target, _option(seat)]
    if len(known) < 2 * KEPT:
        return ["set-option", "-a", *option, f" {message}"]
    return ["set-option", *option, " ".join([*known[1 - KEPT :], message])]


def forgetting(server: TmuxServer, seat: str, known: Sequence[str]) -> Command:
    """Return the command that makes the server remember `known` and no more: the paste was refused."""
    return ["set-option", "-t", server.holder_target, _option(seat), " ".join(known)]


def _option(seat: str) -> str:
    return f"@mosaic_typed_{seat}"
