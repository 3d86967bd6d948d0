"""Ports for programs that are told theirs before they listen, and listen there again when they come back.

They lie below those that the system gives out by itself (32768 and up): one of those may be anybody's a moment later.
"""

from __future__ import annotations

import itertools
import os
import socket

_FIRST, _EACH = 20_000, 700
_WORKERS = 16


def _worker() -> int:
    """Which of the test processes side by side this is; one alone is the last."""
    return int(os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw") or _WORKERS - 1) % _WORKERS


_numbers = itertools.count(os.getpid())


def free_port(address: str) -> int:
    """Return a port on which nothing listens, and which no test that runs meanwhile is given."""
    for number in itertools.islice(_numbers, _EACH):
        port = _FIRST + _worker() * _EACH + number % _EACH
        with socket.socket() as probe:
            try:
                probe.bind((address, port))
            except OSError:
                continue
            return port
    raise AssertionError(f"none of {_EACH} ports is free")
