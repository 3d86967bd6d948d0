"""Looking again and again at what no change stream tells of, through lost connections."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from mosaic_framework.errors import Unreachable

from mosaic_cli import output
from mosaic_cli.client import Connection

LOOK_SECONDS = 1.0

Reply = TypeVar("Reply")


def looks(connection: Connection, ask: Callable[[], Reply]) -> Iterator[Reply]:
    """Yield what `ask` returns now, and every second after. A connection that is lost later is told once, and dialled.

    `ask` takes its stub from the connection each time. Raises what it raises, but Unreachable only at the first look.
    """
    first, lost = True, False
    while True:
        try:
            reply = ask()
        except Unreachable as error:
            if first:
                raise
            if not lost:
                output.say(f"the connection is lost ({error.why}); trying again")
            lost = True
            time.sleep(LOOK_SECONDS)
            connection.reconnect()
            continue
        first = lost = False
        yield reply
        time.sleep(LOOK_SECONDS)
