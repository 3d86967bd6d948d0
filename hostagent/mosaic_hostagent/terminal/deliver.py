"""Typing one text into one pane: paste, see it, Enter, see it gone. Each fact is written down before the next act.

Nothing is claimed that was not seen: without evidence in time the outcome is unknown, and no key is pressed blindly.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from mosaic_framework.manifest import Manifest
from mosaic_framework.steps import reached

from mosaic_hostagent.terminal import gate
from mosaic_hostagent.terminal.control_mode import Command
from mosaic_hostagent.terminal.driving import Driving
from mosaic_hostagent.terminal.evidence import Snapshot, holds, submitted, typed
from mosaic_hostagent.terminal.memory import forgetting, remembering, typed_before
from mosaic_hostagent.terminal.problems import TerminalLost, TmuxRefused
from mosaic_hostagent.terminal.screen import look, snapshot_commands, snapshot_of
from mosaic_hostagent.terminal.server import TmuxServer
from mosaic_hostagent.terminal.text import Typing

TYPED_BEFORE = (
    "its terminal remembers that it was typed and the host's journal does not: the journal was restored or lost, "
    "and nobody can say how far it came"
)
SEEN_SECONDS = 10.0
_SECONDS_PER_CHARACTER = 10.0 / 65_536  # a slow program draws a long paste for a while
_FIRST_LOOK, _LAST_LOOK = 0.002, 0.05
_ENTER_LOOKS = 0.25


class NotNow(Exception):
    """The pane may not be typed into at the moment; nothing was typed. The reason is for a person."""


class Ledger(Protocol):
    """Where a delivery writes what it does. Every call returns when the fact is on disk."""

    async def typing(self) -> None:
        """The next act is the paste."""

    async def untyped(self) -> None:
        """tmux refused the paste: nothing was typed."""

    async def typed(self, detail: str) -> None:
        """The text was seen in the composer; Enter has to wait."""

    async def typed_and_entering(self, detail: str) -> None:
        """The text was seen in the composer, and the next act is Enter."""

    async def submitted(self, detail: str) -> None:
        """The composer was seen without the text after Enter."""

    async def unknown(self, reason: str) -> None:
        """Nobody can say how far it came."""


@dataclass(slots=True)
class Pane:
    """A pane of ours, and the lock that one delivery at a time holds on it."""

    server: TmuxServer
    pane_id: str
    seat: str
    """the agent's id, under which the server remembers what was typed"""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    driving: Driving = field(default_factory=Driving)
    """a person's own keys: the seat's, across its runs"""


@dataclass(frozen=True, slots=True)
class Order:
    """One text to deliver. `leftovers` are earlier texts that may still stand in the composer."""

    name: str
    """the message's id; it also names the paste buffer"""
    typing: Typing
    leftovers: Sequence[str]
    enter_by: float
    """event loop time until which Enter may wait for copy mode or a dialog to go"""


async def deliver(pane: Pane, manifest: Manifest, order: Order, ledger: Ledger, *, settled: bool = False) -> None:
    """Type `order` and press Enter, telling `ledger`. Raises NotNow or TerminalLost when nothing was typed."""
    async with pane.lock:
        known = await _typed_before(pane)
        if order.name in known:
            await ledger.typing()
            await ledger.unknown(TYPED_BEFORE)
            return
        if reason := pane.driving.holds_back(time.monotonic()):
            raise NotNow(reason)
        before = await _look_or_wait(pane)
        before = await _clear_leftovers(pane, manifest, order.leftovers, before)
        if reason := gate.obstacle(before, manifest, settled=settled):
            raise NotNow(reason)
        await ledger.typing()
        reached("hostagent.before-typing")
        try:
            seen = await _paste(pane, order, remembering(pane.server, pane.seat, known, order.name))
        except TmuxRefused as refused:
            await ledger.untyped()
            await pane.server.run(forgetting(pane.server, pane.seat, known))
            raise NotNow(f"tmux refused the paste: {refused.why}") from refused
        except TerminalLost:
            await ledger.unknown("the tmux server was lost while the text was pasted")
            return
        reached("hostagent.pasted")
        try:
            await _after_paste(pane, manifest, order, ledger, before, seen)
        except (TerminalLost, TmuxRefused) as lost:
            await ledger.unknown(f"the terminal was lost after the text was pasted: {lost.why or lost.what}")


async def _after_paste(
    pane: Pane, manifest: Manifest, order: Order, ledger: Ledger, before: Snapshot, first: Snapshot
) -> None:
    text = order.typing.whole
    seconds = SEEN_SECONDS + len(text) * _SECONDS_PER_CHARACTER
    seen = await _until(pane, lambda now: typed(before, now, manifest.composer, text), first, seconds)
    if seen is None:
        await ledger.unknown(
            f"it was pasted, but not seen in the composer within {seconds:.0f} s, or before the program ended; "
            "Enter was not pressed"
        )
        return
    detail = "seen before the cursor" if manifest.composer.kind == "line" else "seen in the composer"
    if gate.obstacle_to_enter(seen, manifest):
        await ledger.typed(detail)
        seen = await _until_enter_is_safe(pane, manifest, order, seen)
        if seen is None:
            await ledger.unknown("it stands in the composer; Enter could not be pressed safely before the deadline")
            return
    await ledger.typed_and_entering(detail)
    reached("hostagent.typed-recorded")
    reached("hostagent.before-enter")
    _, figures, rows = await pane.server.run(
        ["send-keys", "-t", pane.pane_id, "Enter"], *snapshot_commands(pane.pane_id)
    )
    reached("hostagent.entered")
    at_enter = seen
    first = snapshot_of(figures, rows)
    gone = await _until(pane, lambda now: submitted(at_enter, now, manifest.composer, text), first, SEEN_SECONDS)
    if gone is None:
        await ledger.unknown(
            f"Enter was pressed, but the composer was not seen to let go within {SEEN_SECONDS:.0f} s, "
            "or before the program ended"
        )
        return
    line = manifest.composer.kind == "line"
    await ledger.submitted("the cursor is past the text" if line else "the composer no longer holds it")
    reached("hostagent.submitted-recorded")


async def _typed_before(pane: Pane) -> Sequence[str]:
    try:
        return await typed_before(pane.server, pane.seat)
    except TmuxRefused as refused:
        raise NotNow("its tmux server has lost the holder session") from refused


async def _look_or_wait(pane: Pane) -> Snapshot:
    try:
        return await look(pane.server, pane.pane_id)
    except TmuxRefused as refused:
        raise NotNow("its terminal is gone") from refused


async def _paste(pane: Pane, order: Order, remember: Command) -> Snapshot:
    commands: list[Command] = [remember]
    for number, piece in enumerate(order.typing.pieces):
        buffer = f"mosaic-{order.name}-{number}"
        commands.append(["set-buffer", "-b", buffer, "--", piece])
        commands.append(["paste-buffer", "-p", "-d", "-b", buffer, "-t", pane.pane_id])
    *_, figures, rows = await pane.server.run(*commands, *snapshot_commands(pane.pane_id))
    return snapshot_of(figures, rows)


async def _clear_leftovers(pane: Pane, manifest: Manifest, leftovers: Sequence[str], now: Snapshot) -> Snapshot:
    """Clear a text of ours that is seen in the composer. On an empty composer the same key would end some programs."""
    for text in leftovers:
        if not holds(now, manifest.composer, text):
            continue
        if gate.obstacle_to_enter(now, manifest) or manifest.clear_key is None:
            raise NotNow("the text of an earlier message stands in its composer")
        _, figures, rows = await pane.server.run(
            ["send-keys", "-t", pane.pane_id, manifest.clear_key], *snapshot_commands(pane.pane_id)
        )
        first = snapshot_of(figures, rows)
        held = text
        gone = await _until(pane, lambda seen, held=held: not holds(seen, manifest.composer, held), first, 2.0)  # type: ignore[misc]
        if gone is None:
            raise NotNow("the text of an earlier message stands in its composer and could not be cleared")
        if manifest.composer.kind == "line":
            gone = await _until(pane, lambda seen: not gate.obstacle(seen, manifest), gone, 2.0) or gone
        now = gone
    return now


async def _until(pane: Pane, proven: Callable[[Snapshot], bool], first: Snapshot, seconds: float) -> Snapshot | None:
    """Look until `proven` holds and return that look; None after `seconds`, or when the program has ended."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    delay, now = _FIRST_LOOK, first
    while not proven(now):
        if now.dead or loop.time() >= deadline:
            return None
        await asyncio.sleep(delay)  # tmux tells nobody but the session's own clients of output: looking is the event
        delay = min(delay * 2, _LAST_LOOK)
        now = await look(pane.server, pane.pane_id)
    return now


async def _until_enter_is_safe(pane: Pane, manifest: Manifest, order: Order, now: Snapshot) -> Snapshot | None:
    loop = asyncio.get_running_loop()
    while gate.obstacle_to_enter(now, manifest) or not holds(now, manifest.composer, order.typing.whole):
        if now.dead or loop.time() >= order.enter_by:
            return None
        await asyncio.sleep(_ENTER_LOOKS)
        now = await look(pane.server, pane.pane_id)
    return now
