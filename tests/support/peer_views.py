"""What a mesh's register holds of a peer, read past every service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import asyncpg
from mosaic_proto.v1 import fleet_pb2

from tests.support.mesh import Mesh
from tests.support.program import WAIT_SECONDS


class View:
    """The rows of one peer that are kept here, as of the last look."""

    def __init__(self, mesh: Mesh, peer: str, register: asyncpg.Connection[asyncpg.Record]) -> None:
        self._mesh = mesh
        self._peer = peer
        self._register = register
        self.agents: dict[str, fleet_pb2.Agent] = {}
        self.hosts: set[str] = set()

    async def look(self) -> None:
        """Read anew."""
        rows = await self._register.fetch(
            "select kind, content from fleet.peer_row join fleet.peer using (tenant_id, peer_id)"
            " where name = $1 and removed_at is null",
            self._peer,
        )
        agents = [fleet_pb2.Agent.FromString(row["content"]) for row in rows if row["kind"] == "agent"]
        self.agents = {agent.name: agent for agent in agents}
        self.hosts = {fleet_pb2.Host.FromString(row["content"]).name for row in rows if row["kind"] == "host"}

    async def until(self, condition: Callable[[], bool]) -> None:
        """Look until `condition` holds."""
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                while True:
                    await self.look()
                    if condition():
                        return
                    await asyncio.sleep(0.02)
        except TimeoutError:
            log = self._mesh.controlplane.log.read_text()[-3000:]
            raise AssertionError(f"never came to be: {sorted(self.agents)} on {self.hosts}\n{log}") from None

    async def until_live(self) -> None:
        """Wait until the peer has been heard of of late."""
        query = "select bookmark_at from fleet.peer_feed join fleet.peer using (tenant_id, peer_id) where name = $1"
        async with asyncio.timeout(WAIT_SECONDS):
            while await self.value(f"select fleet.peer_health(bookmark_at) from ({query}) known") != "live":
                await asyncio.sleep(0.05)

    async def value(self, query: str) -> object:
        """Ask the register; `$1` is the peer's name."""
        return await self._register.fetchval(query, self._peer)


@asynccontextmanager
async def view(mesh: Mesh, peer: str) -> AsyncIterator[View]:
    """Lend what `mesh` knows of a peer."""
    register = await asyncpg.connect(mesh.controlplane.environment["MOSAIC_DATABASE_URL"])
    try:
        yield View(mesh, peer, register)
    finally:
        await register.close()
