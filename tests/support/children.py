"""Child processes of asyncio that outlive the event loop of their test, told with the test that left them.

asyncio hears of a child's end by its loop. One whose loop was closed before is finished by the garbage collector, with
an error, in whatever test runs by then: so each is looked for at the end of its own test.
"""

from __future__ import annotations

import weakref
from asyncio.base_subprocess import BaseSubprocessTransport
from typing import Any

_started: weakref.WeakKeyDictionary[BaseSubprocessTransport, Any] = weakref.WeakKeyDictionary()
_start = BaseSubprocessTransport.__init__


def _recording_start(self: Any, loop: Any, protocol: Any, args: Any, *rest: Any, **named: Any) -> None:
    _started[self] = args
    _start(self, loop, protocol, args, *rest, **named)


def watch() -> None:
    """Note every child that asyncio starts in this process from now on."""
    BaseSubprocessTransport.__init__ = _recording_start  # type: ignore[method-assign]


def take_left_behind() -> list[str]:
    """Return what each child was started as whose loop is closed and did not see its end, and let go of them."""
    found = []
    for transport, arguments in list(_started.items()):
        child: Any = transport
        if child._closed or child._loop is None or not child._loop.is_closed():
            continue
        found.append(f"{transport!r}: {arguments}")
        child._proc.kill()
        child._proc.wait()
        child._closed = True  # what the collector finds later is nobody's fault
    return found
