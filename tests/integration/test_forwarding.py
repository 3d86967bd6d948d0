"""Calls handed on between replicas: every kind of call, one hop, the original caller checked again where it lands."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.message import DecodeError
from mosaic_controlplane.api.interceptor import AuthInterceptor
from mosaic_controlplane.api.policy import Policy
from mosaic_controlplane.identity.bootstrap import open_cluster
from mosaic_controlplane.identity.caller import Caller, current_caller
from mosaic_controlplane.identity.origin import FORWARDED_KEY, MOST_HOPS, current_origin
from mosaic_controlplane.identity.standings import Standings
from mosaic_controlplane.mesh import forwarding
from mosaic_controlplane.mesh.forwarding import Forwarder
from mosaic_controlplane.register.database import Database
from mosaic_controlplane.register.replica import Holder, arrive
from mosaic_framework import pki, wire
from mosaic_framework.errors import FleetError, NotFound
from mosaic_framework.identity_files import StoredIdentity
from mosaic_framework.ids import new_id
from mosaic_framework.paths import Home
from mosaic_proto.v1 import forwarding_pb2

from tests.support.listeners import Listeners, running

METHODS = ("One", "Many", "Gathered", "Both")
MALFORMED = b"malformed"
OPERATORS = Policy({f"test.Relay/{name}": frozenset({"operator:admin", "agent"}) for name in METHODS})
NOBODY = Policy({f"test.Relay/{name}": frozenset() for name in METHODS})


@dataclass
class Replica:
    """A fleet listener whose calls are answered here, or handed on while `onward` is set."""

    leaf: Any
    replica_id: Any
    address: str = ""
    onward: Holder | None = None
    callers: list[Caller] = field(default_factory=list)
    request_ids: list[str] = field(default_factory=list)
    streams_ended: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def holder(self) -> Holder:
        return Holder(self.replica_id, self.address)

    async def one(self, request: bytes, _context: Any) -> bytes:
        if self.onward is not None:
            async with Forwarder(lambda: self.leaf).to(self.onward) as onward:
                stub = onward.channel.unary_unary("/test.Relay/One")
                return await stub(request, metadata=onward.metadata, timeout=onward.timeout)  # type: ignore[no-any-return]
        self._note()
        if request == b"fail":
            raise NotFound("there is no such thing", why="this test says so")
        return b"one:" + request

    async def gathered(self, requests: AsyncIterator[bytes], _context: Any) -> bytes:
        if self.onward is not None:
            async with Forwarder(lambda: self.leaf).to(self.onward) as onward:
                stub = onward.channel.stream_unary("/test.Relay/Gathered")
                return await stub(requests, metadata=onward.metadata)  # type: ignore[no-any-return]
        self._note()
        return b",".join([request async for request in requests])

    async def many(self, request: bytes, _context: Any) -> AsyncIterator[bytes]:
        if self.onward is not None:
            async with Forwarder(lambda: self.leaf).to(self.onward) as onward:
                stub = onward.channel.unary_stream("/test.Relay/Many")
                async for reply in onward.replies(stub(request, metadata=onward.metadata)):
                    yield reply
            return
        self._note()
        try:
            for number in range(3):
                yield b"%d" % number
            if request == b"forever":
                await asyncio.Event().wait()
        finally:
            self.streams_ended.set()

    async def both(self, requests: AsyncIterator[bytes], _context: Any) -> AsyncIterator[bytes]:
        if self.onward is not None:
            async with Forwarder(lambda: self.leaf).to(self.onward) as onward:
                stub = onward.channel.stream_stream("/test.Relay/Both")
                async for reply in onward.replies(stub(onward.requests(requests), metadata=onward.metadata)):
                    yield reply
            return
        self._note()
        try:
            async for request in requests:
                yield b"echo:" + request
        finally:
            self.streams_ended.set()

    def _note(self) -> None:
        self.callers.append(current_caller())
        self.request_ids.append(current_origin().request_id)


def decoded(content: bytes) -> bytes:
    if content == MALFORMED:
        raise DecodeError
    return content


@dataclass
class Pair:
    """Replica `first` hands everything on to `second`. `people` enrols callers."""

    first: Replica
    second: Replica
    people: Listeners


@asynccontextmanager
async def replica(database: Database, folder: Path, policy: Policy = OPERATORS) -> AsyncIterator[Replica]:
    cluster = await open_cluster(database, Home(folder / "home"), alias="test")
    replica_id = new_id()
    made = Replica(cluster.issue_replica_leaf(replica_id), replica_id)
    standings = Standings(database)
    interceptor = AuthInterceptor(database, cluster, policy, standings=standings)
    server = grpc.aio.server(interceptors=[interceptor], options=wire.SERVER_OPTIONS)
    handlers = {
        "One": grpc.unary_unary_rpc_method_handler(made.one),
        "Gathered": grpc.stream_unary_rpc_method_handler(made.gathered),
        "Many": grpc.unary_stream_rpc_method_handler(made.many),
        "Both": grpc.stream_stream_rpc_method_handler(made.both, request_deserializer=decoded),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Relay", handlers),))
    port = server.add_secure_port(
        "127.0.0.1:0",
        wire.fleet_server_credentials(made.leaf.key_pem, made.leaf.certificate_pem, made.leaf.bundle_pem),
    )
    made.address = f"127.0.0.1:{port}"
    async with database.connection() as connection:
        await arrive(connection, replica_id=replica_id, address=made.address, version="test")
    await server.start()
    looking = asyncio.create_task(standings.run())
    try:
        yield made
    finally:
        looking.cancel()
        await server.stop(None)


@asynccontextmanager
async def pair(database: Database, folder: Path, second_policy: Policy = OPERATORS) -> AsyncIterator[Pair]:
    async with AsyncExitStack() as stack:
        people = await stack.enter_async_context(running(database, folder))
        first = await stack.enter_async_context(replica(database, folder))
        second = await stack.enter_async_context(replica(database, folder, second_policy))
        first.onward = second.holder
        yield Pair(first, second, people)


@pytest.fixture
async def replicas(database: Database, tmp_path: Path) -> AsyncIterator[Pair]:
    async with pair(database, tmp_path) as made:
        yield made


async def admin_of(made: Pair) -> StoredIdentity:
    return await made.people.enrolled("operator", "ada", role="admin")


async def failure(made: Pair, identity: StoredIdentity, request: bytes = b"x", **metadata: str | bytes) -> FleetError:
    sent = tuple((key.replace("_", "-"), value) for key, value in metadata.items())
    async with wire.aio_channel(identity, made.first.address) as channel:
        with pytest.raises(grpc.RpcError) as failed:
            await channel.unary_unary("/test.Relay/One")(request, metadata=sent, timeout=20)
    return wire.error_from_rpc(failed.value)


async def test_each_kind_of_call_is_handed_on_and_answered(replicas: Pair) -> None:
    async with wire.aio_channel(await admin_of(replicas), replicas.first.address) as channel:
        assert await channel.unary_unary("/test.Relay/One")(b"x") == b"one:x"
        assert await channel.stream_unary("/test.Relay/Gathered")(iter([b"a", b"b"])) == b"a,b"
        assert [reply async for reply in channel.unary_stream("/test.Relay/Many")(b"x")] == [b"0", b"1", b"2"]
        call = channel.stream_stream("/test.Relay/Both")()
        for text in (b"a", b"b"):  # each is answered before the next is sent: nothing waits for the end
            await call.write(text)
            assert await call.read() == b"echo:" + text
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
    assert replicas.first.callers == []
    assert len(replicas.second.callers) == len(METHODS)


async def test_a_request_that_cannot_be_taken_is_told_though_the_call_was_handed_on(replicas: Pair) -> None:
    async with wire.aio_channel(await admin_of(replicas), replicas.first.address) as channel:
        call = channel.stream_stream("/test.Relay/Both")(timeout=20)
        await call.write(b"a")
        assert await call.read() == b"echo:a"
        await call.write(MALFORMED)
        with pytest.raises(grpc.RpcError) as failed:
            await call.read()
    assert wire.error_from_rpc(failed.value).code == "malformed-request"
    await asyncio.wait_for(replicas.second.streams_ended.wait(), 20)


async def test_where_it_lands_the_caller_is_the_original_one_with_its_role_address_and_request_id(
    replicas: Pair,
) -> None:
    ada, request_id = await admin_of(replicas), str(new_id())
    async with wire.aio_channel(ada, replicas.first.address) as channel:
        await channel.unary_unary("/test.Relay/One")(b"x", metadata=(("mosaic-request-id", request_id),))
        replicas.first.onward = None
        await channel.unary_unary("/test.Relay/One")(b"x")
    (handed_on,), (direct,) = replicas.second.callers, replicas.first.callers
    assert handed_on == direct
    assert (handed_on.kind, handed_on.name, handed_on.role) == ("operator", "ada", "admin")
    assert replicas.second.request_ids == [request_id]


async def test_an_agents_call_is_handed_on_as_that_agents(replicas: Pair) -> None:
    host = await replicas.people.enrolled("host", "builder")
    agent_id, run_id = new_id(), new_id()
    await replicas.people.database.pool.execute(
        "insert into fleet.agent (tenant_id, agent_id, host_id, name, class, runtime, spec, spec_digest) "
        "select tenant_id, $2, host_id, 'coder0', 'engineer', 'shell', '', '' from fleet.host where host_id::text = $1",
        host.identity_id,
        agent_id,
    )
    await replicas.people.database.pool.execute(
        "insert into fleet.run (tenant_id, run_id, agent_id, started_at) "
        "select tenant_id, $2, agent_id, now() from fleet.agent where agent_id = $1",
        agent_id,
        run_id,
    )
    spoken_for = ((wire.AGENT_KEY, str(agent_id)), (wire.RUN_KEY, str(run_id)))
    async with wire.aio_channel(host, replicas.first.address) as channel:
        await channel.unary_unary("/test.Relay/One")(b"x", metadata=spoken_for)
    (seen,) = replicas.second.callers
    assert (seen.kind, seen.id, seen.role) == ("agent", agent_id, "engineer")


async def test_the_replica_it_lands_on_applies_its_own_policy(database: Database, tmp_path: Path) -> None:
    async with pair(database, tmp_path, second_policy=NOBODY) as made:
        refused = await failure(made, await admin_of(made))
    assert refused.code == "denied"
    assert "ada" in refused.what
    row = await database.pool.fetchrow("select caller_name from fleet.audit where outcome = 'denied'")
    assert row is not None
    assert row["caller_name"] == "ada"


async def test_the_original_callers_standing_is_looked_up_again_where_it_lands(replicas: Pair) -> None:
    ada = await admin_of(replicas)
    content = forwarding_pb2.ForwardedCall(hops=1, certificate=ada.certificate_pem).SerializeToString()
    await replicas.people.database.pool.execute("update fleet.operator set revoked_at = now()")
    async with wire.replica_channel(
        replicas.first.leaf.key_pem,
        replicas.first.leaf.certificate_pem,
        replicas.first.leaf.bundle_pem,
        replicas.second.address,
    ) as channel:
        with pytest.raises(grpc.RpcError) as failed:
            await channel.unary_unary("/test.Relay/One")(b"x", metadata=((FORWARDED_KEY, content),))
    assert wire.error_from_rpc(failed.value).code == "identity-revoked"
    assert replicas.second.callers == []


async def test_a_stream_that_was_handed_on_ends_with_its_callers_standing_and_leaves_the_leafs_end_to_the_first_replica(
    replicas: Pair,
) -> None:
    ada = await admin_of(replicas)
    cluster, key = replicas.people.cluster, pki.new_key()
    brief = cluster.signer.issue(
        key.public_key(),
        pki.SpiffeId.parse(ada.spiffe_id),
        identity_id=ada.identity_id,
        identity_epoch=1,
        lifetime=timedelta(seconds=2),
    )
    content = forwarding_pb2.ForwardedCall(hops=1, certificate=pki.certificate_to_pem(brief)).SerializeToString()
    leaf = replicas.first.leaf
    async with wire.replica_channel(
        leaf.key_pem, leaf.certificate_pem, leaf.bundle_pem, replicas.second.address
    ) as channel:
        stream = channel.unary_stream("/test.Relay/Many")(b"forever", metadata=((FORWARDED_KEY, content),))
        assert [await stream.read() for _ in range(3)] == [b"0", b"1", b"2"]
        await asyncio.sleep(2.5)
        assert not replicas.second.streams_ended.is_set()
        await replicas.people.database.pool.execute("update fleet.operator set revoked_at = now()")
        await asyncio.wait_for(replicas.second.streams_ended.wait(), 20)


@pytest.mark.parametrize("kind", ["operator", "host"])
async def test_nobody_but_a_replica_may_speak_for_another_caller(replicas: Pair, kind: str) -> None:
    ada = await admin_of(replicas)
    viewer = await replicas.people.enrolled(kind, "eve", role="viewer" if kind == "operator" else "")
    content = forwarding_pb2.ForwardedCall(hops=1, certificate=ada.certificate_pem).SerializeToString()
    refused = await failure(replicas, viewer, mosaic_forwarded_bin=content)
    assert refused.code == "denied"
    assert "hand on" in refused.what
    assert replicas.first.callers == replicas.second.callers == []


async def test_a_call_goes_one_hop_and_no_further(replicas: Pair) -> None:
    replicas.second.onward = replicas.first.holder
    assert (await failure(replicas, await admin_of(replicas))).code == "forwarded-too-far"
    assert replicas.first.callers == replicas.second.callers == []


@pytest.mark.parametrize("content", [b"\xff\xff\xff", b"", MOST_HOPS + 1], ids=["rubbish", "empty", "two hops"])
async def test_a_forwarded_call_that_is_not_as_it_should_be_is_refused(replicas: Pair, content: bytes | int) -> None:
    ada = await admin_of(replicas)
    if isinstance(content, int):
        call = forwarding_pb2.ForwardedCall(hops=content, certificate=ada.certificate_pem)
        content = call.SerializeToString()
    leaf = replicas.first.leaf
    async with wire.replica_channel(
        leaf.key_pem, leaf.certificate_pem, leaf.bundle_pem, replicas.second.address
    ) as channel:
        with pytest.raises(grpc.RpcError) as failed:
            await channel.unary_unary("/test.Relay/One")(b"x", metadata=((FORWARDED_KEY, content),))
    assert wire.error_from_rpc(failed.value).code in {"forwarded-too-far", "invalid-input"}
    assert replicas.second.callers == []


async def test_an_error_there_is_told_as_it_was_told_there(replicas: Pair) -> None:
    told = await failure(replicas, await admin_of(replicas), b"fail")
    assert (told.code, told.what, told.why) == ("not-found", "there is no such thing", "this test says so")


async def test_a_stream_handed_on_ends_there_when_nobody_reads_it_any_more(replicas: Pair) -> None:
    async with wire.aio_channel(await admin_of(replicas), replicas.first.address) as channel:
        many = channel.unary_stream("/test.Relay/Many")(b"forever")
        assert await many.read() == b"0"
        many.cancel()
        await asyncio.wait_for(replicas.second.streams_ended.wait(), 10)
        replicas.second.streams_ended.clear()
        both = channel.stream_stream("/test.Relay/Both")()
        await both.write(b"a")
        assert await both.read() == b"echo:a"
        both.cancel()
        await asyncio.wait_for(replicas.second.streams_ended.wait(), 10)


@pytest.mark.parametrize("answers", [False, True], ids=["nobody listens", "a listener that says nothing"])
async def test_a_replica_that_cannot_be_reached_is_told_as_such_and_keeps_nobody_waiting(
    replicas: Pair, monkeypatch: pytest.MonkeyPatch, answers: bool
) -> None:
    monkeypatch.setattr(forwarding, "CONNECT_SECONDS", 0.3)
    silent = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", 0)
    address = f"127.0.0.1:{silent.sockets[0].getsockname()[1]}"
    if not answers:
        silent.close()
    replicas.first.onward = Holder(new_id(), address)
    try:
        told = await failure(replicas, await admin_of(replicas))
    finally:
        silent.close()
    assert (told.code, told.exit_code, told.details["replica"]) == ("replica-unreachable", 5, address)


async def test_a_stranger_at_the_replicas_address_is_not_shown_the_call(
    replicas: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forwarding, "CONNECT_SECONDS", 0.5)
    ada = await admin_of(replicas)
    server = grpc.aio.server()  # with the operator's own certificate: of this cluster, but no replica's
    credentials = grpc.ssl_server_credentials([(ada.key_pem, ada.certificate_pem)])
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    replicas.first.onward = Holder(new_id(), f"127.0.0.1:{port}")
    try:
        assert (await failure(replicas, ada)).code == "replica-unreachable"
    finally:
        await server.stop(None)
