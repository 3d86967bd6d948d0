"""A person's keys into a pane, through the same door as everything that is typed: the pane's lock."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from mosaic_framework.ids import new_id

from mosaic_hostagent.terminal.control_mode import Command
from mosaic_hostagent.terminal.deliver import Pane
from mosaic_hostagent.terminal.keyboard import Literal, Named, Stroke

PATIENCE_SECONDS = 2.0
"""How long keys wait for a delivery that is under way.

Not longer: a delivery holds the lock while a dialog keeps it from pressing Enter, and it is the person who answers
that. It presses Enter only when its whole text is seen in the composer, so keys in between can spoil no proof.
"""

_WORDS = 512  # of one command


async def press(pane: Pane, keys: bytes, strokes: Sequence[Stroke]) -> None:
    """Give the program `strokes`, read from `keys`. Copy mode, which would take them, ends.

    Raises TerminalLost or TmuxRefused.
    """
    held = False
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            held = await pane.lock.acquire()
    except TimeoutError:
        held = False
    try:
        pane.driving.pressed(keys, time.monotonic())
        if strokes:
            await pane.server.run(["copy-mode", "-q", "-t", pane.pane_id], *_commands(pane.pane_id, strokes))
    finally:
        if held:
            pane.lock.release()


def _commands(pane_id: str, strokes: Sequence[Stroke]) -> list[Command]:
    commands: list[Command] = []
    for stroke in strokes:
        if isinstance(stroke, Literal):
            words = [f"{byte:02x}" for byte in stroke.content]
            commands += [
                ["send-keys", "-t", pane_id, "-H", *words[at : at + _WORDS]] for at in range(0, len(words), _WORDS)
            ]
        elif isinstance(stroke, Named):
            commands.append(["send-keys", "-t", pane_id, stroke.name])
        elif text := stroke.content.decode(errors="replace").replace("\x00", ""):
            buffer = f"mosaic-drive-{new_id()}"
            commands.append(["set-buffer", "-b", buffer, "--", text])
            # A terminal pastes line ends as carriage returns already.
            commands.append(["paste-buffer", "-p", "-r", "-d", "-b", buffer, "-t", pane_id])
    return commands
