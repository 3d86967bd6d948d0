"""How the other side ended a call of grpc.aio whose requests stream, though a write that came too late hides it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import grpc.aio

from mosaic_framework.wire import CUT_OFF


@contextmanager
def as_ended(call: Any) -> Iterator[None]:
    """Let a failure of `call` in the block be the one that the other side ended it with. Before the first write.

    A call that the other side ended well ends the block.
    A write that fails since the call is over puts "internal" in the place of the status that had come (grpc issue
    36066): who is refused would hear that the connection broke, and try again.
    """
    told: list[grpc.aio.AioRpcError] = []

    def ended(over: Any) -> None:
        if not told and (code := _at_once(over.code())) is not None:
            trailers = _at_once(over.trailing_metadata()) or grpc.aio.Metadata()
            told.append(grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailers, _at_once(over.details())))

    call.add_done_callback(ended)
    try:
        yield
    except (grpc.aio.AioRpcError, asyncio.InvalidStateError) as error:
        if not told or not _hides(error, call):
            raise
        if told[0].code() is not grpc.StatusCode.OK:
            raise told.pop() from error  # kept here, it would keep the call: its traceback leads to this frame


def _hides(error: Exception, call: Any) -> bool:
    """Whether `error` is what a write fails with, since the call is over."""
    if isinstance(error, grpc.aio.AioRpcError):
        return bool(error.details() == CUT_OFF == _at_once(call.details()))
    return bool(call.done())


def _at_once(answer: Coroutine[Any, Any, Any]) -> Any:
    """Return what a coroutine says without waiting, as grpc.aio's do of a call that is over; None if it would wait."""
    try:
        answer.send(None)
    except StopIteration as said:
        return said.value
    answer.close()
    return None
