"""What stands in a composer before we type: old text of ours is cleared, a person's draft is held or set aside."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog
from mosaic_framework.manifest import Manifest

from mosaic_hostagent.terminal import gate
from mosaic_hostagent.terminal.composer import Standing, composer_region, fold, holds, standing
from mosaic_hostagent.terminal.evidence import Snapshot
from mosaic_hostagent.terminal.pane import NotNow, Pane
from mosaic_hostagent.terminal.problems import TerminalLost, TmuxRefused

RESTS_SECONDS = 1.5
"""A draft that has not changed for so long is not being typed, and may be set aside"""
_SECONDS = 2.0
_NEVER = float("inf")
_LEFT = "the text of an earlier message stands in its composer"

log = structlog.get_logger(__name__)


async def clear_leftovers(pane: Pane, manifest: Manifest, leftovers: Sequence[str], now: Snapshot) -> Snapshot:
    """Clear a text of ours that is seen in the composer. On an empty composer the same key would end some programs.

    Raises NotNow when that cannot be done.
    """
    for text in leftovers:
        if not holds(now, manifest.composer, text):
            continue
        if gate.obstacle_to_enter(now, manifest) or manifest.clear_key is None:
            raise NotNow(_LEFT)
        if not await pane.press(manifest.clear_key, seen=now):
            raise NotNow(_LEFT)
        gone = await pane.until(lambda seen, held=text: not holds(seen, manifest.composer, held), now, _SECONDS)  # type: ignore[misc]
        if gone is None:
            raise NotNow(f"{_LEFT} and could not be cleared")
        if manifest.composer.kind == "line":
            gone = await pane.until(lambda seen: not gate.obstacle(seen, manifest), gone, _SECONDS) or gone
        now = gone
    return now


async def set_aside(pane: Pane, manifest: Manifest, now: Snapshot) -> tuple[Snapshot, str]:
    """Save a person's draft if there is one; return what is seen then, and the draft. Raises NotNow when it is held."""
    if not gate.draft_stands(now, manifest):
        return now, ""
    composer = manifest.composer
    if composer.draft == "hold" or not composer.stash_keys:
        raise NotNow(gate.DRAFT)
    draft = fold(composer_region(composer, now.screen) or "")
    moment = asyncio.get_running_loop().time()
    if draft != pane.draft[0]:
        pane.draft = (draft, moment)
    if pane.draft[1] == _NEVER:
        raise NotNow(f"{gate.DRAFT} and could not be set aside")
    if moment - pane.draft[1] < RESTS_SECONDS:
        raise NotNow(f"{gate.DRAFT}, and is being typed")
    if not await pane.press(*composer.stash_keys, seen=now):
        raise NotNow(gate.DRAFT)
    gone = await pane.until(lambda seen: standing(seen, composer, "") is Standing.EMPTY, now, _SECONDS)
    if gone is None:
        pane.draft = (draft, _NEVER)  # not tried again until it changes
        raise NotNow(f"{gate.DRAFT} and could not be set aside")
    return gone, draft


async def bring_back(pane: Pane, manifest: Manifest, draft: str) -> bool:
    """Restore a draft that was set aside; say whether it is seen again. It is not lost if not: its program keeps it."""
    try:
        back = await _back(pane, manifest, draft)
    except (TerminalLost, TmuxRefused):  # how far the message came is known all the same
        back = False
    if not back:
        log.warning("a draft that was set aside was not seen to come back", pane=pane.pane_id)
    return back


async def _back(pane: Pane, manifest: Manifest, draft: str) -> bool:
    composer = manifest.composer
    now = await pane.look()
    if composer.unstash_keys:
        empty = await pane.until(lambda seen: standing(seen, composer, "") is Standing.EMPTY, now, _SECONDS)
        if empty is None or gate.obstacle_to_enter(empty, manifest):
            return False
        if not await pane.press(*composer.unstash_keys, seen=empty):
            return False
        now = empty
    back = await pane.until(lambda seen: fold(composer_region(composer, seen.screen) or "") == draft, now, _SECONDS)
    return back is not None
