"""Typing one text into one pane: paste, see it, Enter, see it gone. Each fact is written down before the next act.

Nothing is claimed that was not seen: without evidence in time the outcome is unknown, and no key is pressed blindly.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from mosaic_framework.manifest import Manifest
from mosaic_framework.steps import reached

from mosaic_hostagent.terminal import drafts, gate, keys
from mosaic_hostagent.terminal.composer import Standing, holds, let_go, mixed, standing, submitted, typed
from mosaic_hostagent.terminal.evidence import Snapshot
from mosaic_hostagent.terminal.memory import forgetting, remembering, typed_before
from mosaic_hostagent.terminal.pane import GONE, NotNow, Pane
from mosaic_hostagent.terminal.problems import TerminalLost, TmuxRefused
from mosaic_hostagent.terminal.text import Typing

__all__ = ["Ledger", "NotNow", "Order", "Pane", "deliver", "known_to"]

TYPED_BEFORE = (
    "its terminal remembers that it was typed and the host's journal does not: the journal was restored or lost, "
    "and nobody can say how far it came"
)
STALL_SECONDS = 2.2
"""Without progress for so long it is said that it stalls"""
SEEN_SECONDS = 20.0
"""Without evidence for so long it is unknown"""
SWALLOWED_SECONDS = 0.16
"""An Enter that has been read and had no effect for so long was swallowed"""
_SECONDS_PER_CHARACTER = 10.0 / 65_536  # a slow program draws a long paste for a while
_ENTER_LOOKS = 0.25
_MOVING_LOOKS = 0.005
_CURSOR_SECONDS = 1.0
_GONE_SECONDS = 0.5


class Ledger(Protocol):
    """Where a delivery writes what it does. Every call that is awaited returns when the fact is on disk."""

    async def typing(self) -> None:
        """The next act is the paste."""

    async def untyped(self) -> None:
        """The paste was not made: nothing was typed."""

    async def typed(self, detail: str) -> None:
        """The text was seen in the composer; Enter has to wait."""

    async def typed_and_entering(self, detail: str) -> None:
        """The text was seen in the composer, and the next act is Enter."""

    async def submitted(self, detail: str) -> None:
        """The composer was seen without the text after Enter."""

    async def accepted(self) -> None:
        """The runtime itself has said that it has the text."""

    async def unknown(self, reason: str) -> None:
        """Nobody can say how far it came."""

    def stalled(self, reason: str) -> None:
        """It goes no further at the moment; an empty reason: it does again."""


@dataclass(frozen=True, slots=True)
class Order:
    """One text to deliver. `leftovers` are earlier texts that may still stand in the composer."""

    name: str
    """the message's id; it also names the paste buffer"""
    typing: Typing
    leftovers: Sequence[str]
    enter_by: float
    """event loop time until which Enter may wait for copy mode, a dialog or a person's keys to go"""
    accepted: asyncio.Event = field(default_factory=asyncio.Event)
    """set when the runtime itself says that it has the text"""
    only_idle: bool = False
    """not while the program works"""


async def deliver(pane: Pane, manifest: Manifest, order: Order, ledger: Ledger, *, settled: bool = False) -> None:
    """Type `order` and press Enter, telling `ledger`. Raises NotNow or TerminalLost when nothing was typed."""
    async with pane.lock:
        known = await known_to(pane)
        if order.name in known:
            await ledger.typing()
            await ledger.unknown(TYPED_BEFORE)
            return
        if reason := pane.driving.holds_back(time.monotonic()):
            raise NotNow(reason)
        try:
            before, draft = await _made_ready(pane, manifest, order, settled=settled)
        except TmuxRefused as refused:
            raise NotNow(GONE) from refused
        try:
            await _Delivery(pane, manifest, order, ledger, before, known, settled=settled).run()
        finally:
            if draft:
                await drafts.bring_back(pane, manifest, draft)


async def _made_ready(pane: Pane, manifest: Manifest, order: Order, *, settled: bool) -> tuple[Snapshot, str]:
    """Return the pane when it may be pasted into, and the draft that was set aside. Raises NotNow or TmuxRefused."""
    before = await pane.look_first()
    if order.leftovers and (reason := await pane.usurper(before, manifest)):
        raise NotNow(reason)
    before = await drafts.clear_leftovers(pane, manifest, order.leftovers, before)
    reason = gate.obstacle(before, manifest, settled=settled, only_idle=order.only_idle)
    if reason := reason or await pane.usurper(before, manifest):
        raise NotNow(reason)
    return await drafts.set_aside(pane, manifest, before)


async def known_to(pane: Pane) -> Sequence[str]:
    """Return the ids of the messages that were typed into a pane's seat, oldest first. Raises NotNow."""
    try:
        return await typed_before(pane.server, pane.seat)
    except TmuxRefused as refused:
        raise NotNow("its tmux server has lost the holder session") from refused


class _Delivery:
    """One delivery, from the paste on; the pane's lock is held."""

    def __init__(
        self,
        pane: Pane,
        manifest: Manifest,
        order: Order,
        ledger: Ledger,
        before: Snapshot,
        known: Sequence[str],
        *,
        settled: bool,
    ) -> None:
        self._pane = pane
        self._manifest = manifest
        self._composer = manifest.composer
        self._order = order
        self._text = order.typing.whole
        self._ledger = ledger
        self._before = before
        self._known = known
        self._settled = settled
        self._loop = asyncio.get_running_loop()
        self._stalled = False

    async def run(self) -> None:
        """Raises NotNow when nothing was pasted."""
        await self._ledger.typing()
        reached("hostagent.before-typing")
        try:
            hindrance = await self._paste()
        except TmuxRefused as refused:
            hindrance = f"tmux refused the paste: {refused.why}"
            # A server that cannot be told has ended with what it remembers, or makes the next try unknown.
            with contextlib.suppress(TerminalLost, TmuxRefused):
                await self._pane.server.run(forgetting(self._pane.server, self._pane.seat, self._known))
        except TerminalLost:
            await self._ledger.unknown("the tmux server was lost while the text was pasted")
            return
        if hindrance:
            await self._ledger.untyped()
            raise NotNow(hindrance)
        reached("hostagent.pasted")
        try:
            await self._after_paste()
        except (TerminalLost, TmuxRefused) as lost:
            await self._ledger.unknown(f"the terminal was lost after the text was pasted: {lost.why or lost.what}")

    async def _paste(self) -> str:
        """Paste while the pane is as it was looked at; return why not, or "" when it was done."""
        for still in (True, True, True, False):  # a cursor that never rests does not forbid it for ever
            async with self._pane.moment:
                if self._pane.person_types:
                    return gate.DRAFT
                if await keys.paste(
                    self._pane.server,
                    self._pane.pane_id,
                    self._order.typing.pieces,
                    name=self._order.name,
                    remember=remembering(self._pane.server, self._pane.seat, self._known, self._order.name),
                    seen=self._before,
                    cursor=still,
                ):
                    return ""
            now = await self._pane.look()
            reason = gate.obstacle(now, self._manifest, settled=self._settled, only_idle=self._order.only_idle)
            if reason := reason or (gate.DRAFT if gate.draft_stands(now, self._manifest) else ""):
                return reason
            if (now.pid, now.command) != (self._before.pid, self._before.command):
                break
            self._before = now
        return "its terminal changed in the moment before the paste"

    async def _after_paste(self) -> None:
        seen = await self._until_typed()
        if seen is None:
            return
        if self._manifest.paste.settle_ms:
            # The program takes Enter for a part of the paste meanwhile, and nothing of that is seen. It counts from
            # when it has read the paste: when that is seen, it has.
            await asyncio.sleep(self._manifest.paste.settle_ms / 1000)
            seen = await self._pane.look()
        at_enter = await self._enter(seen)
        if at_enter is None:
            return
        reached("hostagent.entered")
        if await self._until_submitted(at_enter):
            reached("hostagent.submitted-recorded")

    async def _until_typed(self) -> Snapshot | None:
        """Wait until the text is seen in the composer, or accepted unseen; None when it is over without."""
        extra = len(self._text) * _SECONDS_PER_CHARACTER
        first = await self._pane.look()
        seen = await self._watched(
            self._is_typed,
            first,
            stall=STALL_SECONDS + extra,
            seconds=SEEN_SECONDS + extra,
            what="it was pasted, and is not seen in the composer",
        )
        if seen is None and not await self._was_accepted():
            await self._ledger.unknown(
                f"it was pasted, but not seen in the composer within {SEEN_SECONDS + extra:.0f} s, "
                "or before the program ended; Enter was not pressed"
            )
        return seen

    def _is_typed(self, now: Snapshot) -> bool:
        # Together with a person's keys it was typed as well: those are waited for later.
        return typed(self._before, now, self._composer, self._text) or mixed(now, self._composer, self._text)

    async def _enter(self, seen: Snapshot) -> Snapshot | None:
        """Press Enter while the composer holds exactly our text and nothing asks; return what was seen just before.

        None when it is over without: a person sent or cleared it, the program ended, or the deadline came first.
        """
        detail = "seen before the cursor" if self._composer.kind == "line" else "seen in the composer"
        began, told, gone_since = self._loop.time(), False, 0.0
        while not await self._was_accepted():
            now = self._loop.time()
            if reason := self._hindrance(seen):
                if not told:
                    await self._ledger.typed(detail)
                    told = True
                self._stall(reason)
                gone_since = (gone_since or now) if let_go(seen, self._composer, self._text) else 0.0
                if gone_since and now - gone_since >= _GONE_SECONDS:
                    await self._without_us(seen)
                    return None
                if seen.dead or now >= self._order.enter_by:
                    await self._ledger.unknown(f"it was typed; Enter could not be pressed safely: {reason}")
                    return None
                await asyncio.sleep(_ENTER_LOOKS)
            else:
                self._stall("")
                await self._ledger.typed_and_entering(detail)
                reached("hostagent.typed-recorded")
                reached("hostagent.before-enter")
                # A cursor that never rests would keep it for ever: what the composer holds must be enough then.
                if await self._pane.press("Enter", seen=seen, cursor=now - began < _CURSOR_SECONDS):
                    return seen
                await asyncio.sleep(_MOVING_LOOKS)
            seen = await self._pane.look()
        return None

    async def _without_us(self, seen: Snapshot) -> None:
        """Our text has left the composer before our Enter."""
        if submitted(self._before, self._before, seen, self._composer, self._text):
            await self._ledger.submitted("somebody else sent it from the composer")
        else:
            await self._ledger.unknown("it was typed, and somebody took it out of the composer before Enter")

    def _hindrance(self, seen: Snapshot) -> str:
        if reason := gate.obstacle_to_enter(seen, self._manifest):
            return reason
        if seen.pid != self._before.pid or seen.command != self._before.command:
            return "another program has taken its place in the terminal"
        if not holds(seen, self._composer, self._text):
            return "the composer does not hold exactly what was typed: somebody else types into it"
        return ""

    async def _until_submitted(self, at_enter: Snapshot) -> bool:
        """Wait until the composer has let go of the text, and say so; an Enter that was swallowed is repeated once."""

        def over(now: Snapshot) -> bool:
            return submitted(self._before, at_enter, now, self._composer, self._text)

        first = await self._pane.look()
        wake = self._order.accepted
        seen = await self._pane.until(lambda now: wake.is_set() or over(now), first, SWALLOWED_SECONDS, wake=wake)
        if seen is None:
            await self._repair()
            seen = await self._watched(
                over,
                await self._pane.look(),
                stall=STALL_SECONDS - SWALLOWED_SECONDS,
                seconds=SEEN_SECONDS,
                what="Enter was pressed, and the composer is not seen to let go",
            )
        if await self._was_accepted():
            return True
        if seen is None:
            gone = let_go(await self._pane.look(), self._composer, self._text)
            what = "the composer let go of it, and it is not seen anywhere" if gone else "the composer did not let go"
            await self._ledger.unknown(f"Enter was pressed, but {what} within {SEEN_SECONDS:.0f} s")
            return False
        line = self._composer.kind == "line"
        await self._ledger.submitted("the cursor is past the text" if line else "the composer no longer holds it")
        return True

    async def _repair(self) -> None:
        """Press Enter again, once, if the program has read the first one and exactly ours stands in the composer."""
        now = await self._pane.look()
        exactly = standing(now, self._composer, self._text) is Standing.OURS
        if not exactly or self._hindrance(now) or gate.works(now, self._manifest):
            return
        if keys.unread(now.tty) == 0:
            await self._pane.press("Enter", seen=now)

    async def _watched(
        self, proven: Callable[[Snapshot], bool], first: Snapshot, *, stall: float, seconds: float, what: str
    ) -> Snapshot | None:
        """Look until `proven`, or the runtime has accepted, and return that look; None when neither came.

        After `stall` seconds it is said that it stalls, and why.
        """
        wake = self._order.accepted

        def enough(now: Snapshot) -> bool:
            return wake.is_set() or proven(now)

        seen = await self._pane.until(enough, first, min(stall, seconds), wake=wake)
        if seen is None and seconds > stall:
            now = await self._pane.look()
            if not now.dead:
                waiting = keys.unread(now.tty)
                idle = f"; its program has not read {waiting} bytes" if waiting else ""
                self._stall(f"stalled: {what} after {stall:.1f} s{idle}")
                seen = await self._pane.until(enough, now, seconds - stall, wake=wake)
        if seen is not None:
            self._stall("")
        return seen

    async def _was_accepted(self) -> bool:
        if self._order.accepted.is_set():
            await self._ledger.accepted()
            return True
        return False

    def _stall(self, reason: str) -> None:
        if reason or self._stalled:
            self._stalled = bool(reason)
            self._ledger.stalled(reason)
