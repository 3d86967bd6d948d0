"""How calls end on the fleet listener: errors keep their code, nothing leaks, no stream outlives its credential."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from mosaic_controlplane.api.interceptor import AuthInterceptor
from mosaic_controlplane.api.policy import Policy
from mosaic_controlplane.api.streams import RELAYS
from mosaic_controlplane.identity.caller import current_caller
from mosaic_controlplane.register.database import Database
from mosaic_framework import pki, wire
from mosaic_framework.errors import FleetError, NotFound
from mosaic_framework.identity_files import StoredIdentity

from tests.support.listeners import Listeners, call, method_kinds, running

ONE_OF_EACH_KIND = [
    "mosaic.v1.FleetService/ListAgents",
    "mosaic.v1.FleetService/Watch",
    "mosaic.v1.HostLinkService/Link",
]
WATCH = "mosaic.v1.FleetService/Watch"


def raising(error: Exception) -> Callable[[str, Any], Awaitable[None]]:
    async def behaviour(_method: str, _context: Any) -> None:
        raise error

    return behaviour


async def forever(_method: str, _context: Any) -> None:
    await asyncio.Event().wait()


async def caller_for(listeners: Listeners, method: str) -> StoredIdentity:
    if method.endswith("/Link"):
        return await listeners.enrolled("host", "builder")
    return await listeners.enrolled("operator", "ada", role="admin")


async def failure(listeners: Listeners, method: str) -> FleetError:
    identity = await caller_for(listeners, method)
    async with wire.aio_channel(identity, listeners.fleet_address) as channel:
        with pytest.raises(grpc.RpcError) as failed:
            await call(channel, method)
    return wire.error_from_rpc(failed.value)


async def end_of_stream(
    listeners: Listeners, identity: StoredIdentity, then: Callable[[], Awaitable[None]]
) -> FleetError:
    """Open a Watch that would last for ever, run `then` once its service has it, and return how it ended."""
    _, _, request_class, reply_class = method_kinds(WATCH)
    async with wire.aio_channel(identity, listeners.fleet_address) as channel:
        stub: Any = channel.unary_stream(
            f"/{WATCH}",
            request_serializer=request_class.SerializeToString,
            response_deserializer=reply_class.FromString,
        )
        stream = stub(request_class())
        await asyncio.wait_for(listeners.reached.wait(), 5)
        await then()
        with pytest.raises(grpc.RpcError) as ended:
            await asyncio.wait_for(stream.read(), 10)
    return wire.error_from_rpc(ended.value)


@pytest.mark.parametrize("method", ONE_OF_EACH_KIND)
async def test_an_error_of_a_service_arrives_whole(database: Database, tmp_path: Path, method: str) -> None:
    error = NotFound("no agent coder9 ☂", why="the nearest is coder0", next_step="mosaic agent ls", details={"a": "b"})
    async with running(database, tmp_path, behaviour=raising(error)) as listeners:
        told = await failure(listeners, method)
    assert type(told) is NotFound
    assert (told.what, told.why, told.next_step) == (error.what, error.why, error.next_step)
    assert told.details["a"] == "b"
    assert told.details["request_id"]


@pytest.mark.parametrize("method", ONE_OF_EACH_KIND)
@pytest.mark.parametrize("error", [ZeroDivisionError("the secret is hunter2"), TimeoutError("the secret is hunter2")])
async def test_a_fault_of_ours_is_told_as_internal_and_nothing_of_it_leaks(
    database: Database, tmp_path: Path, method: str, error: Exception, capfd: pytest.CaptureFixture[str]
) -> None:
    async with running(database, tmp_path, behaviour=raising(error)) as listeners:
        told = await failure(listeners, method)
    assert (told.code, told.exit_code) == ("internal", 1)
    everything = f"{told.what}{told.why}{told.next_step}{told.details}"
    assert "hunter2" not in everything
    assert "Traceback" not in everything
    logged = "".join(capfd.readouterr())
    assert told.details["request_id"] in logged
    assert type(error).__name__ in logged


async def test_the_callers_own_request_id_is_the_one_it_hears_of(database: Database, tmp_path: Path) -> None:
    async with running(database, tmp_path, behaviour=raising(NotFound())) as listeners:
        identity = await listeners.enrolled("operator", "ada", role="admin")
        sent = "0190b6e0-0000-7000-8000-000000000001"
        _, _, request_class, _ = method_kinds("mosaic.v1.MessageService/Send")
        async with wire.aio_channel(identity, listeners.fleet_address) as channel:
            with pytest.raises(grpc.RpcError) as failed:
                await call(channel, "mosaic.v1.MessageService/Send", request=request_class(request_id=sent))
    assert wire.error_from_rpc(failed.value).details["request_id"] == sent


async def test_a_servicer_that_ends_its_call_itself_is_left_alone(database: Database, tmp_path: Path) -> None:
    async def behaviour(_method: str, context: Any) -> None:
        await context.abort(grpc.StatusCode.DATA_LOSS, "mine")

    async with running(database, tmp_path, behaviour=behaviour) as listeners:
        identity = await listeners.enrolled("operator", "ada", role="admin")
        async with wire.aio_channel(identity, listeners.fleet_address) as channel:
            with pytest.raises(grpc.RpcError) as failed:
                await call(channel, WATCH)
    assert (failed.value.code(), failed.value.details()) == (grpc.StatusCode.DATA_LOSS, "mine")


async def test_the_register_down_is_told_as_unreachable_within_five_seconds(database: Database, tmp_path: Path) -> None:
    async with running(database, tmp_path) as listeners:
        identity = await listeners.enrolled("operator", "ada", role="admin")
        await database.close()
        async with wire.aio_channel(identity, listeners.fleet_address) as channel:
            started = time.monotonic()
            with pytest.raises(grpc.RpcError) as failed:
                await call(channel, WATCH)
    told = wire.error_from_rpc(failed.value)
    assert (told.code, told.exit_code) == ("register-unreachable", 5)
    assert time.monotonic() - started < 5


async def test_an_open_stream_ends_when_its_caller_is_revoked(database: Database, tmp_path: Path) -> None:
    async with running(database, tmp_path, behaviour=forever, recheck_seconds=0.1) as listeners:
        identity = await listeners.enrolled("operator", "ada", role="viewer")

        async def revoke() -> None:
            await database.pool.execute("update fleet.operator set revoked_at = now()")

        assert (await end_of_stream(listeners, identity, revoke)).code == "identity-revoked"


async def test_an_open_stream_does_not_outlive_its_certificate(database: Database, tmp_path: Path) -> None:
    async with running(database, tmp_path, behaviour=forever) as listeners:
        identity = await listeners.enrolled("operator", "ada", role="viewer")
        key = pki.new_key()
        brief = listeners.cluster.signer.issue(
            key.public_key(),
            pki.SpiffeId.parse(identity.spiffe_id),
            identity_id=identity.identity_id,
            identity_epoch=1,
            lifetime=timedelta(seconds=2),
        )
        short_lived = replace(identity, key_pem=pki.key_to_pem(key), certificate_pem=pki.certificate_to_pem(brief))

        async def nothing() -> None:
            return None

        ended = await end_of_stream(listeners, short_lived, nothing)
    assert ended.code == "not-authenticated"
    assert "expired" in ended.what


async def test_an_open_stream_survives_a_register_that_is_away(database: Database, tmp_path: Path) -> None:
    async with running(database, tmp_path, behaviour=forever, recheck_seconds=0.05) as listeners:
        identity = await listeners.enrolled("operator", "ada", role="viewer")

        async def cut() -> None:
            await database.close()

        with pytest.raises(TimeoutError):
            await asyncio.wait_for(end_of_stream(listeners, identity, cut), 1.5)


@pytest.mark.parametrize("method", sorted(method for method in RELAYS if "FederationService" not in method))
async def test_the_relay_of_a_terminal_ends_when_the_register_has_been_away_for_five_seconds(
    database: Database, tmp_path: Path, method: str
) -> None:
    away = [4.9]
    async with running(database, tmp_path, behaviour=forever, register_away=lambda: away[0]) as listeners:
        identity = await listeners.enrolled("operator", "ada", role="operator")
        async with wire.aio_channel(identity, listeners.fleet_address) as channel:
            running_call = asyncio.create_task(call(channel, method))
            await asyncio.wait_for(listeners.reached.wait(), 10)
            await asyncio.sleep(0.6)
            assert not running_call.done()
            away[0] = 5.0
            with pytest.raises(grpc.RpcError) as ended:
                await asyncio.wait_for(running_call, 5)
    assert wire.error_from_rpc(ended.value).exit_code == 5
    assert "terminals are not shown" in wire.error_from_rpc(ended.value).why


async def test_every_kind_of_handler_is_guarded_and_knows_its_caller(database: Database, tmp_path: Path) -> None:
    async def collect(requests: Any, _context: Any) -> bytes:
        return b"".join([request async for request in requests]) + current_caller().name.encode()

    async def one(request: bytes, _context: Any) -> bytes:
        return request + current_caller().name.encode()

    async def generate(request: bytes, _context: Any) -> AsyncIterator[bytes]:
        yield request + current_caller().name.encode()

    async def write(request: bytes, context: Any) -> None:  # as gRPC's own health service does
        await context.write(request + current_caller().name.encode())

    async def echo(requests: Any, _context: Any) -> AsyncIterator[bytes]:
        async for request in requests:
            yield request + current_caller().name.encode()

    handlers = {
        "One": grpc.unary_unary_rpc_method_handler(one),
        "Collect": grpc.stream_unary_rpc_method_handler(collect),
        "Generate": grpc.unary_stream_rpc_method_handler(generate),
        "Write": grpc.unary_stream_rpc_method_handler(write),
        "Echo": grpc.stream_stream_rpc_method_handler(echo),
    }
    policy = Policy({f"t.T/{name}": frozenset({"operator:admin"}) for name in handlers})
    async with running(database, tmp_path) as listeners:
        server = grpc.aio.server(interceptors=[AuthInterceptor(database, listeners.cluster, policy)])
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("t.T", handlers),))
        leaf = listeners.replica
        port = server.add_secure_port(
            "127.0.0.1:0", wire.fleet_server_credentials(leaf.key_pem, leaf.certificate_pem, leaf.bundle_pem)
        )
        await server.start()
        try:
            admin = await listeners.enrolled("operator", "ada", role="admin")
            viewer = await listeners.enrolled("operator", "eve", role="viewer")
            for name in handlers:
                assert await say_x(admin, port, name) == b"xada"
                with pytest.raises(grpc.RpcError) as refused:
                    await say_x(viewer, port, name)
                assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
        finally:
            await server.stop(None)


async def say_x(identity: StoredIdentity, port: int, name: str) -> bytes:
    """Call t.T/<name> with b"x", and return the only reply."""
    async with wire.aio_channel(identity, f"127.0.0.1:{port}") as channel:
        made: Any
        if name == "One":
            made = channel.unary_unary("/t.T/One")(b"x", timeout=10)
        elif name == "Collect":
            made = channel.stream_unary("/t.T/Collect")(iter([b"x"]), timeout=10)
        elif name == "Echo":
            made = channel.stream_stream("/t.T/Echo")(iter([b"x"]), timeout=10)
        else:
            made = channel.unary_stream(f"/t.T/{name}")(b"x", timeout=10)
        if name in ("One", "Collect"):
            reply: bytes = await made
            return reply
        return b"".join([reply async for reply in made])
