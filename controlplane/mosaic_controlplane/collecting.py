"""When Python looks for garbage that refers to itself.

A look at everything takes a replica with 10,000 links 2 to 3 s, in which it answers nobody. By Python's own rule it
came every 10 s, and found nothing to speak of (bench/mesh): it counts what was made, and not what is there. Each call
leaves some, of gRPC's own (bench/fuzz), so it comes when the program has grown, and else once in a while. What nothing
refers to any more is freed at once without.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time

import structlog

_YOUNG = 20_000  # objects made, and not freed, until the youngest are looked at: milliseconds
_MIDDLE = 10
_NEVER = 1_000_000  # looks at the middle ones until Python itself would look at everything
EVERY_SECONDS = 3_600.0
CHECK_SECONDS = 5.0
GROWTH, ROOM = 1.5, 200_000
"""Grown: so many times the memory blocks of the last look, and so many more; a block has 60 to 200 bytes."""

log = structlog.get_logger(__name__)


def look_rarely() -> None:
    """Take what has been made until now for good, and the rest rarely. Call it when a program has started."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, _MIDDLE, _NEVER)


def is_due(since: float, blocks: int, before: int) -> bool:
    """Whether to look at everything, `since` seconds after the last look, of which `before` blocks were left."""
    return since >= EVERY_SECONDS or blocks > before * GROWTH + ROOM


async def run(*, check_seconds: float = CHECK_SECONDS) -> None:
    """Look at everything whenever it is due, until cancelled."""
    looked, before = time.monotonic(), sys.getallocatedblocks()
    while True:
        await asyncio.sleep(check_seconds)
        began, blocks = time.monotonic(), sys.getallocatedblocks()
        before = min(before, blocks)  # a fleet that has shrunk leaves no room for garbage
        if not is_due(began - looked, blocks, before):
            continue
        found = gc.collect()
        looked, before = time.monotonic(), sys.getallocatedblocks()
        log.info("looked for garbage", found=found, freed_blocks=blocks - before, seconds=round(looked - began, 3))
