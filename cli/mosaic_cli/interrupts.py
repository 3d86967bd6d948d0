"""Ctrl-C kept waiting while something runs that may not be left half done."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def held_back() -> Iterator[None]:
    """Let Ctrl-C take effect at the end of the block, not within it. The block is short and waits for nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Python delivers signals to the main thread only
        return
    kept: list[tuple[Any, ...]] = []
    former = signal.signal(signal.SIGINT, lambda *told: kept.append(told))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, former)
        if kept and callable(former):
            former(*kept[0])
