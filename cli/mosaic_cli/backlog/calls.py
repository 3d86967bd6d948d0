"""Calls of the backlog: a write whose reply was lost is made again under the same request id, which does it once."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

from google.protobuf.duration_pb2 import Duration
from mosaic_framework.errors import Unreachable
from mosaic_framework.ids import new_id

from mosaic_cli import output
from mosaic_cli.client import ANSWER_WITHIN, ELSEWHERE_WITHIN, Connection, ConnectionLost, NoAnswer

Reply = TypeVar("Reply")

PERSIST_SECONDS = 15.0
"""How long a write whose reply was lost is asked for again, beyond what it waits for by itself."""

_PAUSE_FIRST, _PAUSE_MOST = 0.1, 2.0


def write(
    connection: Connection,
    method: Callable[[Any], Callable[..., Reply]],
    request: Any,
    *,
    request_id: str = "",
    waits: float = 0.0,
) -> Reply:
    """Make one write surely once, and return its reply; `method` picks it from the stub, `waits` is what it may block.

    Raises FleetError. An Unreachable that leaves it open whether the write was done names the request id to repeat.
    """
    request.request_id = request.request_id or request_id or str(new_id())
    until = time.monotonic() + waits + PERSIST_SECONDS
    pause, told = _PAUSE_FIRST, False
    while True:
        try:
            within = ELSEWHERE_WITHIN if getattr(request, "cluster", "") else ANSWER_WITHIN
            return connection.call(method(connection.backlog), request, timeout=waits + within)
        except (ConnectionLost, NoAnswer) as error:
            if time.monotonic() >= until:
                raise _unsure(request.request_id, error) from error
            if not told:
                output.say(f"no reply ({error.why}); asking again under the same request id")
        except Unreachable as error:
            if not told and "in_doubt" not in error.details:
                raise  # it never got there
            if time.monotonic() >= until:
                raise _unsure(request.request_id, error) from error
        told = True
        time.sleep(pause)  # nothing tells us when a control plane is back
        pause = min(pause * 2, _PAUSE_MOST)
        connection.reconnect()


def span(seconds: float) -> Duration:
    """Return seconds as a protobuf Duration."""
    nanos = round(seconds * 1e9)
    return Duration(seconds=nanos // 1_000_000_000, nanos=nanos % 1_000_000_000)


def _unsure(request_id: str, error: Unreachable) -> Unreachable:
    return Unreachable(
        "it is not known whether this was done",
        why=error.why,
        next_step=f"repeat it safely: the same command with --request-id {request_id}",
        details={"request_id": request_id},
    )
