"""A host hears how its link ended, whatever it was doing when the control plane ended it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import AsyncMock, Mock

import grpc
import grpc.aio
import pytest
from mosaic_framework import protocol
from mosaic_framework.errors import Denied, FleetError, LimitReached
from mosaic_framework.wire import ERROR_KEY, error_to_status
from mosaic_hostagent import link as links
from mosaic_hostagent.outgoing import Outgoing
from mosaic_proto.v1 import host_link_pb2 as pb

from tests.support.threaded_server import threaded_server

TRIES = 10
FRAMES = 20

Behaviour = Callable[[Iterator[pb.HostFrame], grpc.ServicerContext], Iterator[pb.ControlFrame | bytes]]


def cancelling(message_id: str) -> pb.ControlFrame:
    return pb.ControlFrame(cancel=pb.CancelDelivery(message_id=message_id))


def refuse(context: grpc.ServicerContext, error: FleetError) -> None:
    status, message = error_to_status(error)
    context.set_trailing_metadata(((ERROR_KEY, message),))
    context.abort(status, error.what)


@contextmanager
def control_plane(behaviour: Behaviour) -> Iterator[str]:
    """Serve links in threads of its own: welcome each, then do as `behaviour` says."""

    def link(requests: Iterator[pb.HostFrame], context: grpc.ServicerContext) -> Iterator[pb.ControlFrame | bytes]:
        next(requests)
        spoken = {"protocol_version": protocol.VERSION, "oldest_protocol": protocol.OLDEST}
        welcome = pb.Welcome(link_epoch=1, beat_interval_ms=5000, answer_within_ms=5000, **spoken)
        yield pb.ControlFrame(welcome=welcome)
        next(requests)
        yield from behaviour(requests, context)

    def serialized(frame: pb.ControlFrame | bytes) -> bytes:
        return frame if isinstance(frame, bytes) else frame.SerializeToString()

    handlers = {"Link": grpc.stream_stream_rpc_method_handler(link, pb.HostFrame.FromString, serialized)}
    with threaded_server("mosaic.v1.HostLinkService", handlers) as address:
        yield address


async def ends(
    behaviour: Behaviour, monkeypatch: pytest.MonkeyPatch, *, busy: float
) -> tuple[list[FleetError | None], AsyncMock]:
    """Link a host that never stops writing, and return how each of TRIES links ended for it, and what cancels it took.

    `busy`: the seconds that it needs for each.
    """
    found: list[FleetError | None] = []
    enough = asyncio.Event()

    def before_next_dial(_attempt: int, failure: FleetError | None) -> float:
        found.append(failure)
        if len(found) == TRIES:
            enough.set()
        return 0.0

    async def takes(_message_id: str) -> None:
        await asyncio.sleep(busy)

    outgoing = Outgoing(Mock(events_after=AsyncMock(return_value=[])))
    handlers = Mock(hello=AsyncMock(return_value=pb.Hello()), welcome=AsyncMock(), cancel=AsyncMock(side_effect=takes))

    async def write() -> None:
        while True:
            outgoing.answer(pb.HostFrame(beat=pb.Beat(sequence=1)))
            await asyncio.sleep(0.001)

    with control_plane(behaviour) as address:
        monkeypatch.setattr(links, "aio_channel", lambda _identity, at: grpc.aio.insecure_channel(at))
        monkeypatch.setattr(links, "before_next_dial", before_next_dial)
        link = links.Link(
            identity=lambda: Mock(expired=lambda: False, certificate_pem=b""),
            addresses=lambda _identity: [address],
            outgoing=outgoing,
            handlers=handlers,
            on_up=Mock(),
        )
        running = [asyncio.create_task(link.run()), asyncio.create_task(write())]
        async with asyncio.timeout(60):
            await enough.wait()
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
    return found[:TRIES], handlers.cancel


async def test_a_host_that_is_busy_with_a_frame_hears_that_it_is_refused_and_when_to_come_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def behaviour(_frames: Any, context: grpc.ServicerContext) -> Iterator[pb.ControlFrame]:
        yield cancelling("1")
        time.sleep(0.02)
        refuse(context, LimitReached.until("full", seconds=7))

    found, _ = await ends(behaviour, monkeypatch, busy=0.1)
    assert [(type(one), getattr(one, "retry_after", None)) for one in found] == [(LimitReached, 7.0)] * TRIES


async def test_what_was_said_before_a_refusal_is_taken_and_then_the_refusal_is_heard(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def behaviour(_frames: Any, context: grpc.ServicerContext) -> Iterator[pb.ControlFrame]:
        for number in range(FRAMES):
            yield cancelling(str(number))
        refuse(context, Denied("no", why="because"))

    found, cancels = await ends(behaviour, monkeypatch, busy=0.002)
    assert [(type(one), one.why if one else "") for one in found] == [(Denied, "because")] * TRIES
    assert cancels.await_count >= TRIES * FRAMES


async def test_a_link_that_was_ended_well_is_no_failure_of_a_host_that_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    def behaviour(_frames: Any, _context: grpc.ServicerContext) -> Iterator[pb.ControlFrame]:
        for number in range(FRAMES):
            yield cancelling(str(number))

    found, cancels = await ends(behaviour, monkeypatch, busy=0.002)
    assert found == [None] * TRIES
    assert cancels.await_count >= TRIES * FRAMES


async def test_a_host_that_is_kept_by_a_frame_hears_the_refusal_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def behaviour(_frames: Any, context: grpc.ServicerContext) -> Iterator[pb.ControlFrame]:
        yield cancelling("1")
        time.sleep(0.02)
        refuse(context, Denied("no", why="because"))

    monkeypatch.setattr(links, "_END_SECONDS", 0.05)
    found, _ = await ends(behaviour, monkeypatch, busy=60)
    assert [(type(one), one.why if one else "") for one in found] == [(Denied, "because")] * TRIES


async def test_a_frame_that_cannot_be_read_ends_the_link_and_the_host_dials_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def behaviour(_frames: Any, _context: grpc.ServicerContext) -> Iterator[bytes]:
        yield b"\x0a\xff"
        time.sleep(0.05)

    found, _ = await ends(behaviour, monkeypatch, busy=0)
    assert [one.what if one else "" for one in found] == ["what the control plane says cannot be read"] * TRIES
