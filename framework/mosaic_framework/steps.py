"""Named places on the way of a message, so that a fault test can stop a process exactly there.

There is no switch for this in an environment variable, a file or an argument: outside of a test's own launcher, which
replaces the observer, passing such a place does nothing.
"""

from __future__ import annotations

from collections.abc import Callable

_observer: Callable[[str], None] | None = None


def reached(name: str) -> None:
    """Say that this process has come to the place `name` ("<program>.<place>")."""
    if _observer is not None:
        _observer(name)
