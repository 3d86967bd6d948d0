"""A call that is refused leaves nothing behind for Python's garbage collector, which a replica runs rarely."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from mosaic_controlplane.api.limits import Limits
from mosaic_controlplane.api.streams import Streams
from mosaic_controlplane.register.database import Database
from mosaic_framework import wire
from mosaic_framework.errors import FleetError, NotAuthenticated, NotFound

from tests.support.listeners import call, running

TIMES = 6
LAST = 2
"""the errors of one call: gRPC may still be at the last one"""
SEND = "mosaic.v1.MessageService/Send"
LINK = "mosaic.v1.HostLinkService/Link"
WATCH = "mosaic.v1.FleetService/Watch"
ENROL = "mosaic.v1.EnrolmentService/Enrol"
MALFORMED = b"\x0a\xff"


def errors_alive() -> int:
    """How many errors there are of those that end a call."""
    return sum(isinstance(one, (FleetError, grpc.aio.AbortError)) for one in gc.get_objects())


async def left_by(refused: Callable[[], Awaitable[Any]]) -> int:
    """Return how many errors are left of TIMES calls while nobody looks for garbage."""
    with suppress(grpc.RpcError):
        await refused()  # what is made once and kept, as the policy
    gc.collect()
    gc.disable()
    try:
        before = errors_alive()
        for _ in range(TIMES):
            with pytest.raises(grpc.RpcError):
                await refused()
        return errors_alive() - before
    finally:
        gc.enable()


@pytest.mark.parametrize("method", [SEND, LINK])
async def test_a_call_that_the_policy_refuses_leaves_nothing(database: Database, tmp_path: Path, method: str) -> None:
    async with running(database, tmp_path) as listeners:
        viewer = await listeners.enrolled("operator", "eve", role="viewer")
        async with wire.aio_channel(viewer, listeners.fleet_address) as channel:
            assert await left_by(lambda: call(channel, method)) <= LAST


@pytest.mark.parametrize("error", [NotFound("no"), ValueError("no")], ids=["refused", "failed"])
@pytest.mark.parametrize("method", ["mosaic.v1.FleetService/ListAgents", WATCH])
async def test_a_call_that_a_servicer_fails_leaves_nothing(
    database: Database, tmp_path: Path, method: str, error: Exception
) -> None:
    async def behaviour(_method: str, _context: Any) -> None:
        raise type(error)(*error.args)

    async with running(database, tmp_path, behaviour=behaviour) as listeners:
        admin = await listeners.enrolled("operator", "ada", role="admin")
        async with wire.aio_channel(admin, listeners.fleet_address) as channel:
            assert await left_by(lambda: call(channel, method)) <= LAST


async def test_a_malformed_request_leaves_nothing(database: Database, tmp_path: Path) -> None:
    async with running(database, tmp_path) as listeners:
        admin = await listeners.enrolled("operator", "ada", role="admin")
        async with wire.aio_channel(admin, listeners.fleet_address) as channel:
            assert await left_by(lambda: channel.unary_unary(f"/{SEND}")(MALFORMED)) <= LAST


@pytest.mark.parametrize("request_bytes", [b"", MALFORMED], ids=["refused", "malformed"])
async def test_a_stranger_who_does_not_get_in_leaves_nothing(
    database: Database, tmp_path: Path, request_bytes: bytes
) -> None:
    async with running(database, tmp_path) as listeners:
        credentials = grpc.ssl_channel_credentials(listeners.cluster.bundle_pem)
        options = wire.client_options()
        async with grpc.aio.secure_channel(listeners.enrol_address, credentials, options=options) as channel:
            assert await left_by(lambda: channel.unary_unary(f"/{ENROL}")(request_bytes)) <= LAST


async def test_a_stream_that_is_ended_for_its_caller_leaves_nothing(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lost(*_arguments: Any, **_more: Any) -> None:
        raise NotAuthenticated("this operator was revoked")

    async def behaviour(_method: str, _context: Any) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(Streams, "_until_lost", lost)
    async with running(database, tmp_path, behaviour=behaviour) as listeners:
        admin = await listeners.enrolled("operator", "ada", role="admin")
        async with wire.aio_channel(admin, listeners.fleet_address) as channel:
            assert await left_by(lambda: call(channel, WATCH)) <= LAST


def test_what_a_certificate_is_refused_with_from_now_on_does_not_keep_the_request() -> None:
    class Request:
        """What a caller sent."""

    limits = Limits()
    requests: list[weakref.ref[Request]] = []

    def refuse() -> None:
        request = Request()
        requests.append(weakref.ref(request))
        try:
            raise NotAuthenticated("this operator was revoked")
        except NotAuthenticated as error:
            limits.refused(b"leaf", error)

    def knock_and_be_refused() -> None:
        while True:  # until one is kept, and tells the next unasked
            limits.knock(b"leaf")
            refuse()

    with pytest.raises(NotAuthenticated, match="this operator was revoked") as told:
        knock_and_be_refused()
    del told
    gc.collect()
    assert [one() for one in requests] == [None] * len(requests)
