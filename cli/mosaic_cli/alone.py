"""One at a time: a lock in the Mosaic home for what reads, decides and writes. The system frees it with the process."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator

from mosaic_framework.paths import Home, private_folder

from mosaic_cli import output


@contextlib.contextmanager
def alone(home: Home, what: str) -> Iterator[None]:
    """Hold the lock `state/<what>.lock`, blanks as hyphens; where somebody has it, say so and wait."""
    private_folder(home.state)
    lock = os.open(home.state / f"{what.replace(' ', '-')}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            output.say(f"another {what} is under way; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
