"""An owner's stream, asked for in this process by a peer that keeps what it is told, and counts it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import asyncpg
from mosaic_controlplane.api import encode
from mosaic_controlplane.federation.exchange import Encoders, Exchange
from mosaic_controlplane.identity.bootstrap import ClusterIdentity, open_cluster
from mosaic_controlplane.identity.caller import Caller
from mosaic_controlplane.identity.standings import Standings
from mosaic_controlplane.mesh.wakes import Wakes
from mosaic_controlplane.register import peer as peer_table
from mosaic_controlplane.register import peer_grant, replica
from mosaic_controlplane.register.database import Database
from mosaic_controlplane.register.peer import NewPeer
from mosaic_controlplane.register.peer_grant import NewGrant
from mosaic_framework import protocol
from mosaic_framework.ids import new_id
from mosaic_framework.paths import Home
from mosaic_proto.v1 import federation_pb2 as pb
from mosaic_proto.v1 import fleet_pb2

from tests.support.owned_rows import Owned


@dataclass
class Listener:
    """A peer: the rows that it has, by kind and id, and what it was told since it began.

    `understands`: the kinds of rows that it says it knows; none: those of the first release.
    """

    rows: dict[tuple[str, bytes], bytes] = field(default_factory=dict)
    cursor: str = ""
    frames: list[pb.ExchangeDown] = field(default_factory=list)
    told: list[pb.PeerRow] = field(default_factory=list)
    understands: Sequence[str] = ()
    protocol: int = protocol.VERSION
    _arriving: dict[tuple[str, bytes], bytes] | None = None

    def take(self, down: pb.ExchangeDown) -> None:
        self.frames.append(down)
        kind = down.WhichOneof("down")
        if kind == "begin":
            self._arriving = {}
        for row in down.rows.rows:
            self.told.append(row)
            key = (row.kind, row.id)
            rows = self.rows if self._arriving is None else self._arriving
            if row.gone:
                assert key in rows, "a row is named that was never shown"
                del rows[key]
            else:
                rows[key] = row.content
        if kind == "end":
            assert self._arriving is not None
            self.rows, self._arriving = self._arriving, None
        self.cursor = down.cursor or self.cursor

    @property
    def agents(self) -> dict[str, fleet_pb2.Agent]:
        found = [fleet_pb2.Agent.FromString(one) for (kind, _), one in self.rows.items() if kind == "agent"]
        return {agent.name: agent for agent in found}

    @property
    def hosts(self) -> set[str]:
        return {fleet_pb2.Host.FromString(one).name for (kind, _), one in self.rows.items() if kind == "host"}

    def kinds(self) -> list[str]:
        """What was told, without the signs of life."""
        return [kind for down in self.frames if (kind := down.WhichOneof("down"))]

    @property
    def resets(self) -> list[str]:
        return [down.reset.reason for down in self.frames if down.WhichOneof("down") == "reset"]


class Owner:
    """A cluster in this process, as a peer of it sees it."""

    def __init__(self, database: Database, cluster: ClusterIdentity, owned: Owned, peer_id: UUID, exchange: Exchange):
        self.database, self.cluster, self.owned, self.peer_id = database, cluster, owned, peer_id
        self._exchange = exchange

    @property
    def caller(self) -> Caller:
        return Caller("peer", self.owned.tenant_id, "default", self.peer_id, "east", "viewer", 1, "")

    async def grant(self, selector: str, *, fields: Sequence[str] = (), seconds: float = 3600.0) -> UUID:
        async with self.database.transaction() as connection:
            made = await peer_grant.add(
                connection,
                NewGrant(self.owned.tenant_id, new_id(), self.peer_id, "see", selector, fields, 0, "anna"),
                ttl=timedelta(seconds=seconds),
            )
            await peer_table.grants_changed(connection, tenant_id=self.owned.tenant_id, peer_id=self.peer_id)
        return made.grant_id

    async def ungrant(self, grant_id: UUID) -> None:
        async with self.database.transaction() as connection:
            await peer_grant.end(
                connection, tenant_id=self.owned.tenant_id, peer_id=self.peer_id, grants=[grant_id], by="anna"
            )
            await peer_table.grants_changed(connection, tenant_id=self.owned.tenant_id, peer_id=self.peer_id)

    async def listen(self, listener: Listener, until: Callable[[], bool], *, epoch: str = "") -> None:
        """Ask for the stream, from where `listener` is, until what it knows satisfies `until`."""
        listener.frames, listener.told = [], []
        stream = self._exchange.serve(self.caller, _says(listener))
        try:
            async with asyncio.timeout(30):
                async for down in stream:
                    listener.take(down)
                    if until():
                        return
        except TimeoutError:
            raise AssertionError(f"never came to be: {listener.kinds()}, {sorted(listener.agents)}") from None
        finally:
            await stream.aclose()  # type: ignore[attr-defined]  # it is a generator

    def frames(self, listener: Listener) -> AsyncGenerator[pb.ExchangeDown, None]:
        """Return the stream, from where `listener` is, frame by frame. It is the caller's to close."""
        frames: AsyncGenerator[pb.ExchangeDown, None] = self._exchange.serve(self.caller, _says(listener))  # type: ignore[assignment]  # it is a generator
        return frames

    @asynccontextmanager
    async def followed(self, listener: Listener) -> AsyncIterator[Callable[[Callable[[], bool]], object]]:
        """Let `listener` hear all the while; lends what waits until it knows something."""
        changed = asyncio.Event()

        async def follow() -> None:
            async for down in self._exchange.serve(self.caller, _says(listener)):
                listener.take(down)
                changed.set()

        async def until(condition: Callable[[], bool]) -> None:
            try:
                async with asyncio.timeout(30):
                    while not condition():
                        if following.done():
                            following.result()
                        changed.clear()
                        await changed.wait()
            except TimeoutError:
                raise AssertionError(f"never came to be: {listener.kinds()}, {sorted(listener.agents)}") from None

        following = asyncio.create_task(follow())
        try:
            yield until
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)


async def _says(listener: Listener) -> AsyncIterator[pb.ExchangeUp]:
    hello = pb.ExchangeHello(protocol=listener.protocol, cursor=listener.cursor, kinds=listener.understands)
    yield pb.ExchangeUp(hello=hello)
    for kind in ("agent", "host"):
        ids = b"".join(row_id for row_kind, row_id in listener.rows if row_kind == kind)
        yield pb.ExchangeUp(known=pb.KnownRows(kind=kind, ids=ids))
    yield pb.ExchangeUp(ready=True)
    await asyncio.Event().wait()


@asynccontextmanager
async def owner_of(database: Database, folder: Path) -> AsyncIterator[Owner]:
    """Make a cluster of a new register, with one peer and no grant."""
    cluster = await open_cluster(database, Home(folder), alias="west")
    replica_id, peer_id = new_id(), new_id()
    async with database.transaction() as connection:
        tenant_id = await connection.fetchval("select tenant_id from fleet.tenant where name = 'default'")
        await replica.arrive(connection, replica_id=replica_id, address="127.0.0.1:1", version="0")
        peer = NewPeer(tenant_id, peer_id, "east", "east.mosaic", "east", "default", "viewer", b"x", [], [], "anna")
        assert await peer_table.add(connection, peer)
    wakes, standings = Wakes(database, replica_id), Standings(database)
    exchange = Exchange(database, cluster, wakes, standings, Encoders(encode.agent, encode.host))
    register = await asyncpg.connect(database.url)
    running = [asyncio.create_task(wakes.run()), asyncio.create_task(standings.run())]
    try:
        yield Owner(database, cluster, Owned(register, tenant_id), peer_id, exchange)
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await register.close()
