"""Giving one text to a program that takes messages without keystrokes, under the lock of its pane.

The composer is not touched, so a person's draft, copy mode and an open list are no obstacles; a question of the
program is one. Every fact is written down before the next act, as in `deliver`.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Protocol

from mosaic_framework.manifest import Manifest
from mosaic_framework.steps import reached

from mosaic_hostagent.letterbox import Letterbox, LetterboxAway, LetterboxSilent
from mosaic_hostagent.terminal import gate
from mosaic_hostagent.terminal.deliver import SEEN_SECONDS, STALL_SECONDS, TYPED_BEFORE, Ledger, Order, known_to
from mosaic_hostagent.terminal.memory import forgetting, remembering
from mosaic_hostagent.terminal.pane import NotNow, Pane
from mosaic_hostagent.terminal.problems import TerminalLost, TmuxRefused

_STALLED = "stalled: it was given to its program, which has not said that it took it"


class GivingLedger(Ledger, Protocol):
    """A ledger that also knows of texts that went past the composer."""

    async def given(self, detail: str) -> None:
        """The runtime said that it has the text."""


async def put_in(path: Path, pane: Pane, manifest: Manifest, order: Order, ledger: GivingLedger) -> bool:
    """Give `order` to the program that listens at `path`; False: nobody does, and nothing was done.

    Raises NotNow when it may not be given now, or the program did not take it; TerminalLost when tmux is gone.
    """
    async with pane.lock:
        known = await known_to(pane)
        if order.name in known:
            await ledger.typing()
            await ledger.unknown(TYPED_BEFORE)
            return True
        seen = await pane.look_first()
        if reason := gate.obstacle_to_text(seen, manifest) or await pane.usurper(seen, manifest):
            raise NotNow(reason)
        try:
            letterbox = await Letterbox.open(path)
        except LetterboxAway:
            return False
        try:
            if reason := letterbox.refuses or ("" if letterbox.idle or not order.only_idle else gate.WORKS):
                raise NotNow(reason)
            await ledger.typing()
            reached("hostagent.before-typing")
            try:
                await pane.server.run(remembering(pane.server, pane.seat, known, order.name))
            except (TmuxRefused, TerminalLost) as lost:
                await ledger.untyped()
                raise NotNow("its tmux server cannot remember that it is given") from lost
            if refused := await _given(letterbox, order, ledger):
                await ledger.untyped()
                await pane.server.run(forgetting(pane.server, pane.seat, known))
                raise NotNow(refused)
        except TmuxRefused as lost:
            raise NotNow("its tmux server has lost the holder session") from lost
        finally:
            letterbox.close()
    return True


async def _given(letterbox: Letterbox, order: Order, ledger: GivingLedger) -> str:
    """Give it, and write down what is known then; return why the program did not take it, or ""."""
    giving = asyncio.ensure_future(letterbox.give(order.name, order.typing.whole, only_idle=order.only_idle))
    try:
        done, _ = await asyncio.wait([giving], timeout=STALL_SECONDS)
        if not done:
            ledger.stalled(_STALLED)
            done, _ = await asyncio.wait([giving], timeout=SEEN_SECONDS - STALL_SECONDS)
            ledger.stalled("")
        if not done:
            why = f"it did not say that it took it within {SEEN_SECONDS:.0f} s"
        elif refused := giving.result():
            return refused
        else:
            reached("hostagent.given")
            await ledger.given("the runtime said that it has the text")
            return ""
    except LetterboxSilent as silent:
        why = str(silent)
    finally:
        giving.cancel()
    if not order.accepted.is_set():  # its own signal is as good, and is journalled already
        await ledger.unknown(f"it was given to its program, and {why}")
    return ""
