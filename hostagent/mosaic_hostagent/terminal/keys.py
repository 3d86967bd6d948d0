"""What goes into a pane: a paste, a key; only while the pane is still as it was seen a moment before.

tmux itself compares, in the moment in which it writes to the program. So a person's key (drawn, or pressed at a
client of this tmux), a dialog that moves the cursor, copy mode or another program in the foreground between our look
and our key mean that no key is pressed.
"""

from __future__ import annotations

import array
import fcntl
import os
import re
import termios
from collections.abc import Sequence

from mosaic_hostagent.terminal.control_mode import Command, Conditional
from mosaic_hostagent.terminal.evidence import Snapshot
from mosaic_hostagent.terminal.server import TmuxServer

_PROGRAM = "#{pane_pid} #{pane_in_mode} #{pane_dead} #{pane_current_command}"
_CURSOR = "#{cursor_x} #{cursor_y} #{history_size} #{pane_width}"
_PLAIN = re.compile(r"[\w.+@/-]*")
_DONE, _HELD = "done", "held"
_NOTHING: Command = ["display-message", "-p", ""]


async def paste(
    server: TmuxServer,
    pane_id: str,
    pieces: Sequence[str],
    *,
    name: str,
    remember: Command,
    seen: Snapshot,
    cursor: bool,
) -> bool:
    """Paste `pieces`, bracketed, each from a buffer named after `name`, if the pane is still as `seen`; say whether.

    `remember` is run in the same moment, before it.
    """
    buffers = [f"mosaic-{name}-{number}" for number in range(len(pieces))]
    await server.run(*(["set-buffer", "-b", buffer, "--", text] for buffer, text in zip(buffers, pieces, strict=True)))
    pasting: list[Command] = [["paste-buffer", "-p", "-d", "-b", buffer, "-t", pane_id] for buffer in buffers]
    dropping: list[Command] = [["delete-buffer", "-b", buffer] for buffer in buffers]
    pasting, dropping = [remember, *pasting], [_NOTHING, *dropping]
    return await _if(server, pane_id, _condition(seen, cursor=cursor), pasting, dropping)


async def press(
    server: TmuxServer, pane_id: str, keys: Sequence[str], *, seen: Snapshot, cursor: bool = True, person: bool = True
) -> bool:
    """Press `keys` if the pane is still as `seen`; say whether they were pressed.

    `cursor`: its cursor too. `person`: nobody at it has pressed a key since.
    """
    pressing: Command = ["send-keys", "-t", pane_id, *keys]
    return await _if(server, pane_id, _condition(seen, cursor=cursor, person=person), [pressing], [_NOTHING])


def unread(tty: str) -> int | None:
    """Return how many bytes wait in a pane's terminal for its program to read; None when nobody can say."""
    try:
        terminal = os.open(tty, os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        waiting = array.array("i", [0])
        fcntl.ioctl(terminal, termios.FIONREAD, waiting)
        return waiting[0]
    except OSError:
        return None
    finally:
        os.close(terminal)


async def _if(server: TmuxServer, pane_id: str, condition: str, then: list[Command], otherwise: list[Command]) -> bool:
    said = await server.run(
        Conditional(
            pane_id,
            condition,
            [*then, ["display-message", "-p", _DONE]],
            [*otherwise, ["display-message", "-p", _HELD]],
        )
    )
    return said[-1] == [_DONE]


def _condition(seen: Snapshot, *, cursor: bool, person: bool = True) -> str:
    condition = f"#{{&&:{_program(seen)},{_cursor(seen)}}}" if cursor else _program(seen)
    return f"#{{&&:{condition},#{{==:#{{session_activity}},{seen.person_at}}}}}" if person else condition


def _program(seen: Snapshot) -> str:
    # A name that tmux could read as a part of the format is left out of the comparison.
    command = seen.command if _PLAIN.fullmatch(seen.command) else None
    values = f"{seen.pid} {int(seen.in_mode)} {int(seen.dead)}"
    if command is None:
        return f"#{{==:{_PROGRAM.rpartition(' ')[0]},{values}}}"
    return f"#{{==:{_PROGRAM},{values} {command}}}"


def _cursor(seen: Snapshot) -> str:
    return f"#{{==:{_CURSOR},{seen.cursor_x} {seen.cursor_y} {seen.history} {seen.width}}}"
