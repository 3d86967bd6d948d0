"""Every RPC by other clusters, over real mTLS at the peer listener, and everybody who is not the one they say."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import grpc
import grpc.aio
import pytest
from google.protobuf.message import Message
from mosaic_controlplane.api.limits import REFUSALS_BURST
from mosaic_controlplane.identity.origin import AUDIENCE_KEY, FORWARDED_KEY, ON_BEHALF_KEY, PAIRING_KEY, Origin
from mosaic_controlplane.register import peer as peer_table
from mosaic_controlplane.register import tenant
from mosaic_controlplane.register.database import Database
from mosaic_controlplane.register.peer import NewPeer
from mosaic_controlplane.register.revocation import Identity, fallen
from mosaic_framework import pki, wire
from mosaic_framework.ids import new_id
from mosaic_proto.v1 import common_pb2
from mosaic_proto.v1 import federation_pb2 as pb

from tests.integration.test_callers import MAY, enter_replica
from tests.support.listeners import Listeners, call, running

PART = "mosaic.v1.FederationService/Part"
EXCHANGE = "mosaic.v1.FederationService/Exchange"
FEDERATION = {method: may for method, may in MAY.items() if method.startswith("mosaic.v1.FederationService/")}


@dataclass
class Cluster:
    """Another cluster: its authority, and the pairing with it, if any."""

    authority: pki.Authority
    trust_domain: str
    peer_id: UUID = field(default_factory=new_id)

    @classmethod
    def made(cls, name: str) -> Cluster:
        return cls(pki.Authority.create(f"{name}.mosaic"), f"{name}.mosaic")

    def leaf(self, spiffe_id: str = "", *, lifetime: timedelta = timedelta(hours=1)) -> tuple[bytes, bytes]:
        """Return key and certificate (PEM) of a replica of this cluster, or of whoever is said."""
        key, replica_id = pki.new_key(), str(new_id())
        certificate = self.authority.issue(
            key.public_key(),
            pki.SpiffeId.parse(spiffe_id or f"spiffe://{self.trust_domain}/replica/{replica_id}"),
            identity_id=replica_id,
            identity_epoch=1,
            dns_names=[pki.SERVER_NAME],
            lifetime=lifetime,
        )
        return pki.key_to_pem(key), pki.certificate_to_pem(certificate)


async def pair(listeners: Listeners, cluster: Cluster, *, role: str, tenant_name: str = "default") -> UUID:
    """Pair a tenant with a cluster that people call by its trust domain's first word; returns the pairing's id."""
    peer_id = new_id()
    async with listeners.database.transaction() as connection:
        await tenant.ensure(connection, tenant_name)
        found = await tenant.find_by_name(connection, tenant_name)
        assert found is not None
        new = NewPeer(
            tenant_id=found.tenant_id,
            peer_id=peer_id,
            name=cluster.trust_domain.partition(".")[0],
            trust_domain=cluster.trust_domain,
            cluster="theirs",
            their_tenant="default",
            role=role,
            bundle=pki.certificate_to_pem(cluster.authority.certificate),
            addresses=[],
            enrol_addresses=[],
            paired_by="a test",
        )
        assert await peer_table.add(connection, new)
    await listeners.bundles.read()
    return peer_id


async def revoke(listeners: Listeners, peer_id: UUID) -> None:
    async with listeners.database.transaction() as connection:
        peer = await peer_table.find(connection, peer_id)
        assert peer is not None
        assert await peer_table.revoke(
            connection, tenant_id=peer.tenant_id, peer_id=peer_id, by="us", by_name="a test", reason="enough"
        )


@dataclass
class Caller:
    """One who calls at the peer listener: `expected` is how every call is refused, or empty for one who is let in."""

    channel: grpc.aio.Channel
    metadata: Mapping[str, str | bytes]
    expected: str = ""
    word: str = ""


def channel_of(listeners: Listeners, leaf: tuple[bytes, bytes], address: str = "") -> grpc.aio.Channel:
    return wire.replica_channel(*leaf, listeners.cluster.bundle_pem, address or listeners.peer_address)


def saying(listeners: Listeners, peer_id: object, **more: str | bytes) -> dict[str, str | bytes]:
    """Return the metadata of a call of that pairing, for us."""
    return {PAIRING_KEY: str(peer_id), AUDIENCE_KEY: listeners.cluster.trust_domain, **more}


@pytest.fixture
async def listeners(database: Database, tmp_path: Path) -> AsyncIterator[Listeners]:
    async with running(database, tmp_path) as made:
        yield made


async def callers(listeners: Listeners, stack: AsyncExitStack) -> dict[str, Caller]:
    """Return every kind of caller that comes to the peer listener."""
    east, west, gone, left, stranger = (Cluster.made(name) for name in ("east", "west", "gone", "left", "stranger"))
    east_id = await pair(listeners, east, role="viewer")
    west_id = await pair(listeners, west, role="operator")
    acme_id = await pair(listeners, west, role="viewer", tenant_name="acme")
    gone_id = await pair(listeners, gone, role="operator")
    left_id = await pair(listeners, left, role="operator")
    await pair(listeners, left, role="operator", tenant_name="acme")
    await revoke(listeners, left_id)
    replica = await enter_replica(listeners)
    ours = listeners.cluster.trust_domain

    async def caller(
        leaf: tuple[bytes, bytes], peer_id: object, expected: str = "", word: str = "", **more: str | bytes
    ) -> Caller:
        channel = await stack.enter_async_context(channel_of(listeners, leaf))
        return Caller(channel, saying(listeners, peer_id, **more), expected, word)

    made = {
        "viewer peer": await caller(east.leaf(), east_id, word="peer:viewer"),
        "operator peer": await caller(west.leaf(), west_id, word="peer:operator"),
        "operator peer, viewer in another tenant": await caller(west.leaf(), acme_id, word="peer:viewer"),
        "peer that says it speaks for an agent": await caller(
            east.leaf(), east_id, word="peer:viewer", **{wire.AGENT_KEY: str(new_id()), wire.RUN_KEY: str(new_id())}
        ),
        "peer that says a replica hands it on": await caller(
            east.leaf(), east_id, word="peer:viewer", **{FORWARDED_KEY: forwarded(west.leaf()[1], west_id)}
        ),
        "peer whose originator is an admin of ours": await caller(
            east.leaf(), east_id, word="peer:viewer", **{ON_BEHALF_KEY: originator("ada", "admin", "ours")}
        ),
        "no pairing said": await caller(east.leaf(), "", "unknown-peer"),
        "a pairing that is no id": await caller(east.leaf(), "east", "unknown-peer"),
        "unknown pairing": await caller(east.leaf(), new_id(), "unknown-peer"),
        "another's pairing": await caller(east.leaf(), west_id, "not-authenticated"),
        "revoked, trusted in another tenant": await caller(left.leaf(), left_id, "peer-revoked"),
        "meant for nobody": await caller(east.leaf(), east_id, "wrong-audience", **{AUDIENCE_KEY: ""}),
        "meant for another": await caller(east.leaf(), east_id, "wrong-audience", **{AUDIENCE_KEY: "west.mosaic"}),
        "our replica, named by a peer": await caller(
            east.leaf(f"spiffe://{ours}/replica/{new_id()}"), east_id, "not-authenticated"
        ),
        "our admin, named by a peer": await caller(
            east.leaf(f"spiffe://{ours}/tenant/default/operator/ada"), east_id, "not-authenticated"
        ),
        "another peer's replica, named by a peer, of that pairing": await caller(
            east.leaf(f"spiffe://west.mosaic/replica/{new_id()}"), west_id, "not-authenticated"
        ),
        "another peer's replica, named by a peer, of its own pairing": await caller(
            east.leaf(f"spiffe://west.mosaic/replica/{new_id()}"), east_id, "not-authenticated"
        ),
        "admin of a peer": await caller(
            east.leaf("spiffe://east.mosaic/tenant/default/operator/ada"), east_id, "not-authenticated"
        ),
        "host of a peer": await caller(
            east.leaf("spiffe://east.mosaic/tenant/default/host/web"), east_id, "not-authenticated"
        ),
        "expired leaf": await caller(east.leaf(lifetime=timedelta(minutes=-1)), east_id, "unreachable"),
        "stranger": await caller(stranger.leaf(), east_id, "unreachable"),
        "stranger who says to be a peer": await caller(
            Cluster(stranger.authority, "east.mosaic").leaf(), east_id, "unreachable"
        ),
        "our own replica": await caller((replica.key_pem, replica.certificate_pem), east_id, "unreachable"),
    }
    await revoke(listeners, gone_id)
    await listeners.bundles.read()
    made["revoked"] = await caller(gone.leaf(), gone_id, "unreachable")
    return made


def forwarded(leaf_pem: bytes, peer_id: object) -> bytes:
    return dict(Origin(leaf_pem, pairing=str(peer_id)).onward())[FORWARDED_KEY]  # type: ignore[return-value]


def originator(name: str, role: str, cluster: str) -> bytes:
    principal = common_pb2.Principal(kind=common_pb2.PRINCIPAL_KIND_OPERATOR, name=name)
    return pb.OriginatingIdentity(principal=principal, role=role, cluster=cluster).SerializeToString()


async def test_every_rpc_answers_exactly_the_peers_that_the_policy_names(listeners: Listeners) -> None:
    wrong = []
    async with AsyncExitStack() as stack:
        for name, caller in (await callers(listeners, stack)).items():
            tried = FEDERATION if caller.expected == "unreachable" else MAY  # TLS asks for no method
            for method, may in tried.items():
                listeners.answered.clear()
                expected = caller.expected or ("answered" if caller.word in may else "denied")
                found = "answered"
                try:
                    await call(caller.channel, method, metadata=caller.metadata)
                except grpc.RpcError as error:
                    found = wire.error_from_rpc(error).code
                if found != expected or bool(listeners.answered) != (expected == "answered"):
                    wrong.append(f"{name} calling {method}: {found}, not {expected}")
    assert wrong == []


async def test_a_peer_calls_as_what_the_pairing_says_and_whom_it_speaks_for_is_only_written_down(
    listeners: Listeners,
) -> None:
    east = Cluster.made("east")
    peer_id = await pair(listeners, east, role="viewer")
    metadata = saying(listeners, peer_id, **{ON_BEHALF_KEY: originator("ada\x1b[31m", "admin", "east")})
    async with channel_of(listeners, east.leaf()) as channel:
        await call(channel, PART, metadata=metadata)
        with pytest.raises(grpc.RpcError):
            await call(channel, "mosaic.v1.FederationService/Send", metadata=metadata)
    ((_method, caller),) = listeners.answered
    assert (caller.kind, caller.id, caller.name, caller.role, caller.tenant) == (
        "peer",
        peer_id,
        "east",
        "viewer",
        "default",
    )
    assert caller.on_behalf_of == "operator ada?[31m (admin) of cluster east"
    row = await listeners.database.pool.fetchrow("select * from fleet.audit where outcome = 'denied'")
    assert row is not None
    assert (row["caller_kind"], row["caller_name"], row["caller_role"]) == ("peer", "east", "viewer")
    assert json.loads(row["detail"])["on_behalf_of"] == "operator ada?[31m (admin) of cluster east"


async def test_each_refusal_of_a_peer_that_is_not_who_it_says_is_audited_with_what_it_claimed(
    listeners: Listeners,
) -> None:
    async with AsyncExitStack() as stack:
        for name, caller in (await callers(listeners, stack)).items():
            if caller.expected in ("", "unreachable"):  # that is TLS's own refusal: no call ever came
                continue
            await listeners.database.pool.execute("delete from fleet.audit")
            with pytest.raises(grpc.RpcError):
                await call(caller.channel, PART, metadata=caller.metadata)
            row = await listeners.database.pool.fetchrow("select * from fleet.audit")
            assert row is not None, name
            assert (row["method"], row["outcome"]) == ("FederationService/Part", caller.expected), name
            assert row["peer_address"].startswith("127.0.0.1:"), name
            claimed = json.loads(row["detail"])["claimed"]
            assert str(caller.metadata[PAIRING_KEY]) in claimed, name
            assert ".mosaic/" in claimed, name


async def test_a_leaf_that_ends_while_its_connection_stands_is_refused_and_audited_with_the_next_call(
    listeners: Listeners,
) -> None:
    east = Cluster.made("east")
    peer_id = await pair(listeners, east, role="viewer")
    async with channel_of(listeners, east.leaf(lifetime=timedelta(seconds=2))) as channel:
        await call(channel, PART, metadata=saying(listeners, peer_id))
        async with asyncio.timeout(20):
            while True:
                try:
                    await call(channel, PART, metadata=saying(listeners, peer_id))
                except grpc.RpcError as error:
                    told = wire.error_from_rpc(error)
                    break
                await asyncio.sleep(0.05)
    assert (told.code, told.why) == ("not-authenticated", "it has expired")
    assert await listeners.database.pool.fetchval("select count(*) from fleet.audit where outcome = $1", told.code) == 1


async def test_a_revocation_ends_the_streams_of_a_peer_on_every_replica_and_no_others(
    database: Database, tmp_path: Path
) -> None:
    held = asyncio.Event()

    async def behaviour(method: str, context: grpc.aio.ServicerContext[Message, Message]) -> None:
        if method == EXCHANGE:
            await context.write(pb.ExchangeDown())
            await held.wait()

    def replica() -> AbstractAsyncContextManager[Listeners]:
        return running(database, tmp_path, behaviour=behaviour, recheck_seconds=60)

    async with replica() as first, replica() as second, AsyncExitStack() as stack:
        east, west = Cluster.made("east"), Cluster.made("west")
        east_id = await pair(first, east, role="viewer")
        west_id = await pair(first, west, role="viewer")
        await second.bundles.read()
        ended, kept = [], []
        for listeners in (first, second):
            for cluster, peer_id, streams in ((east, east_id, ended), (west, west_id, kept)):
                channel = await stack.enter_async_context(channel_of(listeners, cluster.leaf()))
                metadata = tuple(saying(listeners, peer_id).items())
                streams.append(exchange_at(channel)(iter([pb.ExchangeUp()]), metadata=metadata))
        for stream in (*ended, *kept):
            assert await stream.read() is not grpc.aio.EOF
        await revoke(first, east_id)
        for stream in ended:
            with pytest.raises(grpc.RpcError) as told:
                await stream.read()
            assert wire.error_from_rpc(told.value).code == "peer-revoked"
        assert not any(stream.done() for stream in kept)
        held.set()


async def test_a_pairing_whose_end_was_not_heard_of_is_found_by_the_next_look(listeners: Listeners) -> None:
    peer_id = await pair(listeners, Cluster.made("east"), role="viewer")
    async with listeners.database.connection() as connection:
        found = await peer_table.find(connection, peer_id)
        assert found is not None
        stood = Identity(found.tenant_id, "peer", peer_id, 1, "viewer")
        assert await fallen(connection, [stood]) == set()
        assert await fallen(connection, [replace(stood, role="operator")]) == {peer_id}
        await revoke(listeners, peer_id)
        assert await fallen(connection, [stood]) == {peer_id}


async def test_a_pairing_that_is_refused_over_and_over_shuts_out_no_other_of_the_same_cluster(
    listeners: Listeners,
) -> None:
    east = Cluster.made("east")
    over = await pair(listeners, east, role="viewer")
    stands = await pair(listeners, east, role="viewer", tenant_name="acme")
    await revoke(listeners, over)
    async with channel_of(listeners, east.leaf()) as channel:
        for _ in range(REFUSALS_BURST + 5):
            with pytest.raises(grpc.RpcError) as told:
                await call(channel, PART, metadata=saying(listeners, over))
            assert wire.error_from_rpc(told.value).code == "peer-revoked"
        await call(channel, PART, metadata=saying(listeners, stands))


def exchange_at(channel: grpc.aio.Channel) -> Any:
    """Return the call that holds a stream of a peer's."""
    return channel.stream_stream(
        f"/{EXCHANGE}",
        request_serializer=pb.ExchangeUp.SerializeToString,
        response_deserializer=pb.ExchangeDown.FromString,
    )


async def test_what_a_cluster_said_to_one_peer_is_of_no_use_at_another(listeners: Listeners) -> None:
    """East calls west; west replays that here, where it is a peer too, by its own leaf: it has no other."""
    west = Cluster.made("west")
    west_id = await pair(listeners, west, role="operator")
    said = {PAIRING_KEY: str(new_id()), AUDIENCE_KEY: "west.mosaic", ON_BEHALF_KEY: originator("ada", "admin", "east")}
    async with channel_of(listeners, west.leaf()) as channel:
        for metadata, code in ((said, "wrong-audience"), (said | {PAIRING_KEY: str(west_id)}, "wrong-audience")):
            with pytest.raises(grpc.RpcError) as refused:
                await call(channel, PART, metadata=metadata)
            assert wire.error_from_rpc(refused.value).code == code
        with pytest.raises(grpc.RpcError) as unknown:
            await call(channel, PART, metadata=said | {AUDIENCE_KEY: listeners.cluster.trust_domain})
        assert wire.error_from_rpc(unknown.value).code == "unknown-peer"
    assert listeners.answered == []
    outcomes = await listeners.database.pool.fetch("select outcome from fleet.audit order by at, audit_id")
    assert [row["outcome"] for row in outcomes] == ["wrong-audience", "wrong-audience", "unknown-peer"]


async def test_a_replica_may_hand_on_a_peers_call_and_only_as_the_peer_that_it_is(listeners: Listeners) -> None:
    east = Cluster.made("east")
    peer_id = await pair(listeners, east, role="viewer")
    replica = await enter_replica(listeners)
    ours = (replica.key_pem, replica.certificate_pem)
    origin = Origin(east.leaf()[1], pairing=str(peer_id), audience=listeners.cluster.trust_domain)
    async with channel_of(listeners, ours, listeners.fleet_address) as channel:
        listeners.answered.clear()
        await call(channel, "mosaic.v1.FederationService/WatchTerminal", metadata=dict(origin.onward()))
        ((_method, caller),) = listeners.answered
        assert (caller.kind, caller.id, caller.name) == ("peer", peer_id, "east")
        await revoke(listeners, peer_id)
        with pytest.raises(grpc.RpcError) as refused:
            await call(channel, "mosaic.v1.FederationService/WatchTerminal", metadata=dict(origin.onward()))
    assert wire.error_from_rpc(refused.value).code == "peer-revoked"
