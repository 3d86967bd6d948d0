"""Entering one of a program's own commands, such as `/clear`: alone in an empty composer, and never in a dialog.

It goes through the same door as a message: the pane's lock, the gate, a paste, a look, Enter, a look. A list that the
program opens over what is typed names commands; it is no dialog.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from mosaic_framework.manifest import Manifest
from mosaic_framework.steps import reached

from mosaic_hostagent.terminal import gate
from mosaic_hostagent.terminal.composer import composer_region
from mosaic_hostagent.terminal.evidence import Snapshot, signs_seen, squeeze
from mosaic_hostagent.terminal.pane import NotNow, Pane
from mosaic_hostagent.terminal.screen import look

SEEN_SECONDS = 10.0
_FIRST_LOOK, _LAST_LOOK = 0.01, 0.1
_STEADY_SECONDS = 0.3
"""A list that opens over the composer may come a moment after the text: Enter is pressed when nothing moves."""
_LONG_SECONDS = 2.0
_LISTED = re.compile(r"\W*/\w")


class Ledger(Protocol):
    """Where the entering of a command is written down. Each call returns when that is on disk."""

    async def typing(self) -> None:
        """The next act is the paste."""

    async def untyped(self) -> None:
        """Nothing of it stands in the composer."""

    async def entering(self) -> None:
        """The next act is Enter."""


class Unproven(Exception):
    """Enter was pressed, or may have been, and what it did was not seen. The reason is for a person."""


async def enter_command(pane: Pane, manifest: Manifest, command: str, *, name: str, ledger: Ledger) -> str:
    """Type `command` and press Enter; return the evidence that the program took it.

    `name`: of the paste buffer, unique. Raises NotNow or TerminalLost when nothing of it stays typed, or Unproven.
    """
    async with pane.lock:
        before = await look(pane.server, pane.pane_id)
        if reason := obstacle(before, manifest):
            raise NotNow(reason)
        await ledger.typing()
        reached("hostagent.reset-typing")
        await pane.server.run(
            ["set-buffer", "-b", name, "--", command], ["paste-buffer", "-p", "-d", "-b", name, "-t", pane.pane_id]
        )
        seen = await _steady(pane, lambda shot: not shot.dead and command_stands(shot, manifest, command))
        if seen is None:
            await _take_back(pane, manifest, command)
            await ledger.untyped()
            raise NotNow("its composer is not empty, or does not take the command")
        return await _enter(pane, manifest, command, seen, ledger)


async def finish_command(pane: Pane, manifest: Manifest, command: str, *, entered: bool, ledger: Ledger) -> str | None:
    """Go on where a host-agent died: after the paste, or with `entered` at Enter.

    Returns the evidence, or None when nothing of the command was left and it may be typed. Raises NotNow or Unproven.
    """
    async with pane.lock:
        seen = await look(pane.server, pane.pane_id)
        if command_stands(seen, manifest, command):
            return await _enter(pane, manifest, command, seen, ledger)
        if not entered:
            await ledger.untyped()
            return None
        return await _proof(pane, manifest, command)


def obstacle(shot: Snapshot, manifest: Manifest) -> str:
    """Return why no command may be typed now, or ""."""
    if reason := gate.obstacle(shot, manifest):
        return reason
    if (sign := signs_seen(manifest.signs.working, shot.screen, shot.title)) is not None:
        return f"it works: {sign.where} shows {sign.pattern!r}"
    return ""


def command_stands(shot: Snapshot, manifest: Manifest, command: str) -> bool:
    """Say whether the composer holds the command, and nothing beside it."""
    region = composer_region(manifest.composer, shot.screen)
    first = next((text for line in (region or "").splitlines() if (text := squeeze(line))), "")
    return first == squeeze(command)


async def _enter(pane: Pane, manifest: Manifest, command: str, seen: Snapshot, ledger: Ledger) -> str:
    if reason := gate.obstacle_to_enter(_without_list(seen), manifest):
        await _take_back(pane, manifest, command)
        await ledger.untyped()
        raise NotNow(reason)
    await ledger.entering()
    reached("hostagent.reset-entering")
    await pane.server.run(["send-keys", "-t", pane.pane_id, "Enter"])
    reached("hostagent.reset-entered")
    return await _proof(pane, manifest, command)


async def _proof(pane: Pane, manifest: Manifest, command: str) -> str:
    """Wait until the screen shows what the command does. Raises Unproven."""

    def proven(shot: Snapshot) -> bool:
        if shot.dead or command_stands(shot, manifest, command):
            return False
        if composer_region(manifest.composer, shot.screen) is None:
            return False
        fresh = manifest.reset.fresh
        return not fresh or signs_seen(fresh, shot.screen, shot.title) is not None

    if await _until(pane, proven) is None:
        raise Unproven(f"Enter was pressed after {command}, and no empty conversation was seen in {SEEN_SECONDS:.0f} s")
    if manifest.reset.fresh:
        return "the screen shows an empty conversation"
    return "the composer let go of the command; the runtime has no sign of an empty conversation"


def _without_list(shot: Snapshot) -> Snapshot:
    """Return the screen without the rows of a list of commands: what is typed may stand in it under another name."""
    return replace(shot, rows=[row for row in shot.rows if not _LISTED.match(row)])


async def _take_back(pane: Pane, manifest: Manifest, command: str) -> None:
    """Take our text out of the composer, character by character: what a person has written there stays."""
    shot = await look(pane.server, pane.pane_id)
    if shot.dead or gate.obstacle_to_enter(_without_list(shot), manifest):
        return
    region = composer_region(manifest.composer, shot.screen) or ""
    if squeeze(command) in squeeze(region):
        await pane.server.run(["send-keys", "-N", str(len(command)), "-t", pane.pane_id, "BSpace"])


async def _steady(pane: Pane, wanted: Callable[[Snapshot], bool]) -> Snapshot | None:
    """Look until `wanted` holds on a screen that stands still, or for long; None when it stands still without."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + SEEN_SECONDS
    last = await look(pane.server, pane.pane_id)
    still = held = loop.time()
    while loop.time() < deadline and not last.dead:
        now = loop.time()
        if not wanted(last):
            held = now
            if now - still >= _LONG_SECONDS:
                return None
        elif now - still >= _STEADY_SECONDS or now - held >= _LONG_SECONDS:
            return last
        await asyncio.sleep(_LAST_LOOK)  # looking is the event: tmux tells only a session's own clients of output
        shot = await look(pane.server, pane.pane_id)
        if shot.rows != last.rows:
            still = loop.time()
        last = shot
    return None


async def _until(pane: Pane, proven: Callable[[Snapshot], bool]) -> Snapshot | None:
    loop = asyncio.get_running_loop()
    deadline, delay = loop.time() + SEEN_SECONDS, _FIRST_LOOK
    shot = await look(pane.server, pane.pane_id)
    while not proven(shot):
        if shot.dead or loop.time() >= deadline:
            return None
        await asyncio.sleep(delay)
        delay = min(delay * 2, _LAST_LOOK)
        shot = await look(pane.server, pane.pane_id)
    return shot
