"""How a call ended is told as the other side said it, also when a write came after that."""

from __future__ import annotations

import gc
import time
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import grpc
import grpc.aio
import pytest
from mosaic_controlplane.mesh.forwarding import Onward
from mosaic_framework.call_endings import as_ended
from mosaic_framework.errors import Denied
from mosaic_framework.wire import CUT_OFF, ERROR_KEY, error_from_rpc, error_to_status

from tests.support.threaded_server import threaded_server

TRIES = 30
"""Without `as_ended`, each of them hears "internal"."""


@contextmanager
def serving(behaviour: Callable[[Any, grpc.ServicerContext], Iterator[bytes]]) -> Iterator[str]:
    """Serve one streaming method."""
    with threaded_server("test.Endings", {"Both": grpc.stream_stream_rpc_method_handler(behaviour)}) as address:
        yield address


@pytest.fixture
def refusing() -> Iterator[str]:
    """Where every call is refused as the control plane does it."""

    def refuse(_requests: Any, context: grpc.ServicerContext) -> Iterator[bytes]:
        status, message = error_to_status(Denied("no", why="because"))
        context.set_trailing_metadata(((ERROR_KEY, message),))
        context.abort(status, "no")
        yield b""

    with serving(refuse) as address:
        yield address


async def write_late(call: Any) -> None:
    """Let the end of a call arrive while the loop stands still, so that it is not heard of before the next write."""
    await call.wait_for_connection()
    if not call.done():
        time.sleep(0.02)  # noqa: ASYNC251  # what a busy process does to its loop
        await call.write(b"late")
        await call.read()


async def test_a_refusal_is_heard_by_one_who_wrote_after_it(refusing: str) -> None:
    async with grpc.aio.insecure_channel(refusing) as channel:
        for _ in range(TRIES):
            call = channel.stream_stream("/test.Endings/Both")()
            with pytest.raises(grpc.aio.AioRpcError) as refused, as_ended(call):
                await write_late(call)
            told = error_from_rpc(refused.value)
            assert (type(told), told.what, told.why) == (Denied, "no", "because")


async def late_requests() -> AsyncIterator[bytes]:
    """Requests of which each comes when the loop has stood still for a moment."""
    while True:
        time.sleep(0.005)  # noqa: ASYNC251  # what a busy process does to its loop
        yield b"late"


async def test_a_refusal_is_heard_by_one_whose_requests_are_taken_from_an_iterator(refusing: str) -> None:
    async with grpc.aio.insecure_channel(refusing) as channel:
        for _ in range(TRIES):
            call = channel.stream_stream("/test.Endings/Both")(late_requests())
            with pytest.raises(grpc.aio.AioRpcError) as refused, as_ended(call):
                async for _reply in call:
                    pass
            assert isinstance(error_from_rpc(refused.value), Denied)


async def test_what_another_replica_refuses_is_heard_through_the_one_that_handed_it_on(refusing: str) -> None:
    async with grpc.aio.insecure_channel(refusing) as channel:
        onward = Onward(channel, ())
        for _ in range(TRIES):
            call: Any = channel.stream_stream("/test.Endings/Both")(late_requests())
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await anext(onward.replies(call))
            assert isinstance(error_from_rpc(refused.value), Denied)


async def test_a_refusal_that_was_heard_leaves_nothing_for_the_garbage_collector(refusing: str) -> None:
    calls: list[weakref.ref[Any]] = []

    async def be_refused(channel: grpc.aio.Channel) -> None:
        call = channel.stream_stream("/test.Endings/Both")()
        calls.append(weakref.ref(call))
        with suppress(grpc.aio.AioRpcError), as_ended(call):
            await write_late(call)

    gc.disable()
    try:
        async with grpc.aio.insecure_channel(refusing) as channel:
            for _ in range(TRIES):
                await be_refused(channel)
            calls.pop()  # gRPC may still be at the last one
        assert [one() for one in calls] == [None] * (TRIES - 1)
    finally:
        gc.enable()


async def test_what_another_call_fails_with_in_the_block_is_told() -> None:
    def answer(_requests: Any, _context: grpc.ServicerContext) -> Iterator[bytes]:
        return iter(())

    other = grpc.aio.AioRpcError(grpc.StatusCode.INTERNAL, grpc.aio.Metadata(), grpc.aio.Metadata(), CUT_OFF)
    with serving(answer) as address:
        async with grpc.aio.insecure_channel(address) as channel:
            call = channel.stream_stream("/test.Endings/Both")()
            with pytest.raises(grpc.aio.AioRpcError) as failed, as_ended(call):
                await fail_after(call, other)
    assert failed.value is other


async def fail_after(call: Any, failure: Exception) -> None:
    assert await call.read() is grpc.aio.EOF
    raise failure


async def test_a_call_that_was_ended_well_is_no_failure_for_one_who_wrote_after_it() -> None:
    def answer(_requests: Any, _context: grpc.ServicerContext) -> Iterator[bytes]:
        return iter(())

    with serving(answer) as address:
        async with grpc.aio.insecure_channel(address) as channel:
            for _ in range(TRIES):
                call = channel.stream_stream("/test.Endings/Both")()
                with as_ended(call):
                    await write_late(call)


async def test_a_failure_that_the_other_side_did_not_say_stays_what_it_is() -> None:
    async with grpc.aio.insecure_channel("127.0.0.1:1") as channel:
        call = channel.stream_stream("/test.Endings/Both")()
        with pytest.raises(grpc.aio.AioRpcError) as failed, as_ended(call):
            await call.read()
        assert failed.value.code() is grpc.StatusCode.UNAVAILABLE
