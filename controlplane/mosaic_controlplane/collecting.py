"""How often Python looks for garbage that refers to itself.

A look at everything takes a replica with 10,000 links 2 to 3 s, in which it answers nobody. By Python's own rule it
came every 10 s, and found nothing to speak of (bench/mesh). What nothing refers to any more is freed at once without.
"""

from __future__ import annotations

import asyncio
import gc
import time

import structlog

_YOUNG = 20_000  # objects made, and not freed, until the youngest are looked at: milliseconds
_MIDDLE = 10
_NEVER = 1_000_000  # looks at the middle ones until Python itself would look at everything
EVERY_SECONDS = 3_600.0

log = structlog.get_logger(__name__)


def look_rarely() -> None:
    """Take what has been made until now for good, and the rest rarely. Call it when a program has started."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, _MIDDLE, _NEVER)


async def run(*, every_seconds: float = EVERY_SECONDS) -> None:
    """Look at everything once in a while, until cancelled: links that ended may be part of a circle."""
    while True:
        await asyncio.sleep(every_seconds)
        began = time.monotonic()
        found = gc.collect()
        log.info("looked for garbage", found=found, seconds=round(time.monotonic() - began, 3))
