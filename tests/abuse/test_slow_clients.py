"""Clients that connect and do nothing, say half of what comes next, or never read: they go, or cost nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mosaic_controlplane.register.database import Database
from mosaic_framework import wire
from mosaic_framework.pane import REPORT_SUFFIX
from mosaic_hostagent.local import PaneSocket
from mosaic_hostagent.relay import Relay, Upstream
from mosaic_hostagent.reports import AT_ONCE, Reports
from mosaic_hostagent.sessions import Sessions
from mosaic_proto.v1 import fleet_pb2

from tests.support.listeners import Listeners, call, method_kinds, running
from tests.support.raw_garbage import Door, tls_context
from tests.support.slow import HALVES, linger

AGENTS = "mosaic.v1.FleetService/ListAgents"
WATCH = "mosaic.v1.FleetService/Watch"
SOON = [
    ("grpc.server_handshake_timeout_ms", 1_000),
    ("grpc.keepalive_time_ms", 1_000),
    ("grpc.keepalive_timeout_ms", 500),
    ("grpc.http2.ping_timeout_ms", 500),
    ("grpc.http2.settings_timeout", 1_000),
]
"""As our own options are, in shorter times; that they are set at all is another test's promise."""
PINGS = ("keepalive_time_ms", "keepalive_timeout_ms", "http2.ping_timeout_ms", "http2.settings_timeout")
AGE = "grpc.max_connection_age_ms"
MANY = 50
PATIENCE = 30.0


async def doors(listeners: Listeners) -> list[Door]:
    admin = await listeners.enrolled("operator", "admin", role="admin")
    certificate, key = listeners.folder / "raw.pem", listeners.folder / "raw.key"
    certificate.write_bytes(admin.certificate_pem)
    key.write_bytes(admin.key_pem)
    return [
        Door(listeners.enrol_address, tls_context(admin.bundle_pem)),
        Door(listeners.fleet_address, tls_context(admin.bundle_pem, certificate, key)),
    ]


@pytest.mark.parametrize("half", sorted(HALVES))
async def test_who_connects_and_says_half_does_not_stay_and_nobody_else_waits(
    database: Database, tmp_path: Path, half: str
) -> None:
    async with running(database, tmp_path, options=SOON) as listeners:
        slow = [
            asyncio.create_task(linger(door, half, longest=PATIENCE))
            for door in await doors(listeners)
            for _ in range(MANY)
        ]
        viewer = await listeners.enrolled("operator", "eve", role="viewer")
        async with wire.aio_channel(viewer, listeners.fleet_address) as channel:
            await call(channel, AGENTS)
        await asyncio.gather(*slow)  # fails for one that stays


async def test_who_says_half_at_the_panes_socket_does_not_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "SERVER_OPTIONS", [*SOON, *wire.SERVER_OPTIONS])
    panes, door, _ = pane_socket(tmp_path)
    await panes.start()
    try:
        await asyncio.gather(
            *(linger(door, half, longest=PATIENCE) for half in HALVES if "TLS" not in half for _ in range(MANY))
        )
    finally:
        await panes.close()


async def test_reporters_beyond_what_is_read_at_once_are_told_to_spool(tmp_path: Path) -> None:
    panes, door, reports = pane_socket(tmp_path)
    await panes.start()
    try:
        path = door.address.removeprefix("unix:") + REPORT_SUFFIX
        waiting = [await asyncio.open_unix_connection(path) for _ in range(AT_ONCE)]
        await until(lambda: reports.under_way == AT_ONCE)
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"{}\n" + b"x" * 100_000)
        writer.write_eof()
        assert await reader.read() == b"later\n"
        for _, one in waiting:
            one.close()
        await until(lambda: reports.under_way == 0)
        writer.close()
    finally:
        await panes.close()


async def test_a_stream_that_is_never_read_holds_no_more_than_a_few_windows(database: Database, tmp_path: Path) -> None:
    written = 0
    size = 256 * 1024

    async def endless(method: str, context: Any) -> fleet_pb2.WatchEvent | None:
        nonlocal written
        if method == WATCH:
            while True:
                await context.write(reply)
                written += 1
        return None

    _, _, request_class, reply_class = method_kinds(WATCH)
    reply = reply_class(cursor="x" * size)
    async with running(database, tmp_path, behaviour=endless) as listeners:
        viewer = await listeners.enrolled("operator", "eve", role="viewer")
        async with wire.aio_channel(viewer, listeners.fleet_address) as channel:
            stub: Any = channel.unary_stream(f"/{WATCH}", request_serializer=request_class.SerializeToString)
            stream = stub(request_class())
            before = -1
            while written != before:
                before = written
                await asyncio.sleep(0.5)
                await call(channel, AGENTS)
            assert written * size < 32 * 1024 * 1024
            stream.cancel()


def test_every_listener_of_the_control_plane_ends_connections_that_say_nothing() -> None:
    for options in (wire.ENROL_SERVER_OPTIONS, wire.fleet_server_options(connections=100)):
        found = dict(options)
        assert found["grpc.server_handshake_timeout_ms"] <= 5_000
        assert found["grpc.max_allowed_incoming_connections"] >= 16
        assert found["grpc.max_concurrent_streams"] <= 2_048
        assert found["grpc.max_receive_message_length"] <= wire.MESSAGE_LIMIT
        assert max(found.get(f"grpc.{name}", 10**9) for name in PINGS) <= 30_000 or found[AGE] <= 30_000


def pane_socket(folder: Path) -> tuple[PaneSocket, Door, Reports]:
    async def nothing(*_: object) -> str:
        return ""

    async def told() -> None:
        return None

    path = folder / "agent.sock"
    sessions = Sessions(folder, host="here", socket=path)
    reports = Reports(sessions, nothing)
    relay = Relay(sessions, Upstream(lambda: pytest.fail("nobody has a session"), lambda: ""), told)
    return PaneSocket(path, relay, reports), Door(f"unix:{path}"), reports


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.01)
