"""A replica that cannot reach the register for five seconds serves nobody; what was decided meanwhile holds after."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlencode, urlsplit, urlunsplit

import pytest
from mosaic_cli.client import Connection
from mosaic_cli.context import Context
from mosaic_framework import wire
from mosaic_framework.identity_files import StoredIdentity
from mosaic_proto.v1 import fleet_pb2, fleet_pb2_grpc

from tests.mesh.test_revocation import OPERATOR, login, refused, revoke
from tests.mesh.test_two_replicas import Replica
from tests.support.mesh import Mesh


class Wire:
    """A way to the register that can be cut and mended. `url` is the register's, through it."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._socket = unquote(parse_qs(parts.query).get("host", [""])[0])
        self._address = (
            parts.hostname or "127.0.0.1",
            parts.port or int(parse_qs(parts.query).get("port", ["5432"])[0]),
        )
        self._parts = parts
        self._port = 0
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def mend(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()

    @property
    def url(self) -> str:
        user = self._parts.netloc.rpartition("@")[0]
        at = f"{user}@" if user else ""
        query = {key: values[0] for key, values in parse_qs(self._parts.query).items() if key not in ("host", "port")}
        return urlunsplit(self._parts._replace(netloc=f"{at}127.0.0.1:{self._port}", query=urlencode(query)))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._socket:
            path = f"{self._socket}/.s.PGSQL.{self._address[1]}"
            there, back = await asyncio.open_unix_connection(path)
        else:
            there, back = await asyncio.open_connection(*self._address)
        self._writers |= {writer, back}
        try:
            await asyncio.gather(_pump(reader, back), _pump(there, writer))
        finally:
            self._writers -= {writer, back}
            writer.close()
            back.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while content := await reader.read(65_536):
            writer.write(content)
            await writer.drain()
        writer.close()
    except (ConnectionError, OSError):
        writer.close()


@pytest.fixture
async def way(mesh: Mesh) -> AsyncIterator[Wire]:
    way = Wire(mesh.controlplane.environment["MOSAIC_DATABASE_URL"])
    await way.mend()
    yield way
    await way.cut()


async def test_a_replica_cut_off_refuses_calls_within_seconds_and_hears_of_a_revocation_when_it_is_back(
    mesh: Mesh, way: Wire, tmp_path: Path
) -> None:
    second = Replica(mesh)
    second.program.environment["MOSAIC_DATABASE_URL"] = way.url
    await second.start()
    eve = await login(mesh, "eve", tmp_path / "eve")
    channel = wire.aio_channel(eve, second.address)
    fleet = fleet_pb2_grpc.FleetServiceStub(channel)

    async def ask() -> fleet_pb2.ListAgentsReply:
        return await fleet.ListAgents(fleet_pb2.ListAgentsRequest())

    try:
        await ask()
        await way.cut()
        async with asyncio.timeout(30):
            while "has not answered for 5 s" not in (found := await refused(ask)).why:
                assert found.code == "register-unreachable", "nothing is served that nobody could check"
                await asyncio.sleep(0.1)
        began = time.monotonic()
        await refused(ask)
        assert time.monotonic() - began < 2, "from then on nobody waits for it"
        for _ in range(5):  # whichever answers first, a command goes to the one that serves
            agents = await asyncio.to_thread(list_agents, eve, second.address)
            assert list(agents) == []
        await revoke(mesh, OPERATOR, "eve")
        await way.mend()
        async with asyncio.timeout(60):
            while (await refused(ask)).code != "identity-revoked":
                await asyncio.sleep(0.1)
        assert (await second.fleet.ListAgents(fleet_pb2.ListAgentsRequest())) is not None, "everybody else is served"
    finally:
        await channel.close()
        await second.close()


def list_agents(identity: StoredIdentity, address: str) -> Sequence[fleet_pb2.Agent]:
    """As a command does whose login is from when `address` was the only one; of others its certificate tells."""
    connection = Connection(Context("work", (address,), ""), identity)
    try:
        agents: Sequence[fleet_pb2.Agent] = connection.list_agents().agents
        return agents
    finally:
        connection.close()


async def test_a_host_leaves_a_replica_that_is_cut_off_for_one_that_is_not_and_stays_live(
    mesh: Mesh, way: Wire
) -> None:
    second = Replica(mesh)
    second.program.environment["MOSAIC_DATABASE_URL"] = way.url
    await second.start()
    try:
        host = await mesh.join("alpha", dials=[mesh.address, second.address])
        mesh.controlplane.kill()
        linked_to = "select linked_replica::text from fleet.host where name = 'alpha'"
        before = await mesh.register_value(linked_to)
        await eventually_value(mesh, linked_to, lambda now: now not in (None, before))
        cut_off = await mesh.register_value(linked_to)
        mesh.controlplane.start()
        await mesh.serving()
        await asyncio.sleep(2)  # two ticks: each replica has read that there is another
        await way.cut()
        await eventually_value(mesh, linked_to, lambda now: now not in (None, cut_off))
        row = await mesh.host_row("alpha")
        assert row.state == fleet_pb2.HOST_STATE_LIVE, host.program.log.read_text()[-2000:]
    finally:
        await second.close()


async def eventually_value(mesh: Mesh, query: str, wanted: Callable[[object], bool]) -> None:
    async with asyncio.timeout(30):
        while not wanted(await mesh.register_value(query)):
            await asyncio.sleep(0.1)
