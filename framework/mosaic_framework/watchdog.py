"""Signs of life for systemd's watchdog."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from mosaic_framework.notify import notify

_PARTS = 3
"""So many signs of life come within systemd's time (WatchdogSec), so that one may be late."""


async def keep_watchdog(environment: Mapping[str, str]) -> None:
    """Say that we are ready, and then give signs of life until cancelled; nothing where systemd asks for none."""
    notify("READY=1")
    microseconds = int(environment.get("WATCHDOG_USEC") or 0)
    if not microseconds:
        return
    while True:
        notify("WATCHDOG=1")
        await asyncio.sleep(microseconds / 1e6 / _PARTS)
