"""Interrupting what a program works on, with its own key; never in a dialog, which that key would answer."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from mosaic_framework.manifest import Manifest

from mosaic_hostagent.terminal import gate
from mosaic_hostagent.terminal.evidence import Snapshot
from mosaic_hostagent.terminal.pane import GONE, NotNow, Pane
from mosaic_hostagent.terminal.problems import TerminalLost, TmuxRefused

STOPS_SECONDS = 5.0
NOTHING_RAN = "nothing ran that could be interrupted"
INTERRUPTED = "its interrupt key was pressed, and it works no longer"


class InterruptLedger(Protocol):
    """Where an interrupt that is a message of its own writes what it does."""

    async def typing(self) -> None:
        """The next act is the key."""

    async def untyped(self) -> None:
        """Nothing was pressed."""

    async def unknown(self, reason: str) -> None:
        """Nobody can say whether it stopped."""


async def interrupt(pane: Pane, manifest: Manifest, *, working: bool, ledger: InterruptLedger | None = None) -> str:
    """Press the interrupt key if the program works, and see it stop; return what was seen, or "" when it was not seen.

    `working`: what is known beside the screen. Raises NotNow when nothing was pressed.
    """
    async with pane.lock:
        now = await pane.look_first()
        if reason := gate.obstacle_to_enter(_unhurried(now), manifest) or _unfit(manifest):
            raise NotNow(reason)
        if not _busy(now, manifest, working=working):
            if ledger is not None:
                await ledger.typing()
            return NOTHING_RAN
        if ledger is not None:
            await ledger.typing()
        try:
            for number, key in enumerate(manifest.interrupt_keys):
                if not await pane.press(key, seen=now, at_rest=False, cursor=False):
                    if number == 0 and ledger is not None:
                        await ledger.untyped()
                    raise NotNow("it changed in the moment before its interrupt key")
            stopped = await pane.until(lambda seen: not _busy(seen, manifest, working=False), now, STOPS_SECONDS)
        except (TerminalLost, TmuxRefused) as lost:
            if ledger is None:
                raise NotNow(GONE) from lost
            await ledger.unknown("its terminal was lost when its interrupt key was pressed")
            return ""
    if stopped is not None:
        return INTERRUPTED
    reason = f"its interrupt key was pressed, and it was not seen to stop within {STOPS_SECONDS:g} s"
    if ledger is not None:
        await ledger.unknown(reason)
    return ""


def _unhurried(now: Snapshot) -> Snapshot:
    # Its key sends no draft: somebody who types does not hold it up.
    return replace(now, person_types=False)


def _unfit(manifest: Manifest) -> str:
    if not manifest.interrupt_keys:
        return f"no key is known that interrupts {manifest.title}"
    return ""


def _busy(now: Snapshot, manifest: Manifest, *, working: bool) -> bool:
    if manifest.composer.kind == "line":
        return bool(gate.obstacle(_unhurried(now), manifest))
    return working or gate.works(now, manifest)
