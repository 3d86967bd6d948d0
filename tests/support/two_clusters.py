"""Two clusters side by side that are paired: what one asks of the other, on real control planes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.support.mesh import Mesh, running_mesh
from tests.support.pane import Done, Environment, mosaic
from tests.support.peers import Paired, grant, pair, ungrant
from tests.support.postgres import Databases
from tests.support.program import WAIT_SECONDS


class Pair:
    """Two clusters: `east` asks, `west` owns."""

    def __init__(self, east: Mesh, west: Mesh, paired: Paired) -> None:
        self.east, self.west, self.peer_id = east, west, paired.peer_id

    async def grants(self, **kinds: str) -> None:
        """What west grants to east, and nothing else."""
        await ungrant(self.west, self.peer_id)
        for kind, selector in kinds.items():
            await grant(self.west, self.peer_id, kind, selector)

    async def may_claim(self, **most: int) -> None:
        """What west lets east claim, by selector, and nothing else."""
        await ungrant(self.west, self.peer_id)
        for selector, number in most.items():
            await grant(self.west, self.peer_id, "claim", selector, most=number)

    async def until_handed(self, message_id: str) -> None:
        """Wait until west has a message, as east knows."""
        state = None
        async with asyncio.timeout(WAIT_SECONDS):
            while state != "handed":
                await asyncio.sleep(0.05)
                state = await self.east.register_value(
                    "select state from fleet.peer_message where message_id = $1", message_id
                )


@asynccontextmanager
async def two_clusters(databases: Databases) -> AsyncIterator[Pair]:
    """Lend two clusters that are paired, without hosts."""
    urls = databases.create(), databases.create()
    async with (
        running_mesh(urls[0], environment={"MOSAIC_CLUSTER": "east"}) as east,
        running_mesh(urls[1], environment={"MOSAIC_CLUSTER": "west"}) as west,
    ):
        yield Pair(east, west, await pair(east, west))
    for url in urls:
        databases.drop(url)


async def run(environment: Environment, *arguments: str) -> Done:
    return await asyncio.to_thread(mosaic, environment, *arguments)


async def audit(mesh: Mesh, method: str) -> list[dict[str, object]]:
    """The rows of one call, newest first."""
    rows = await mesh.register_value(
        "select json_agg(to_jsonb(a) order by a.at desc)::text from fleet.audit a where a.method like '%' || $1", method
    )
    found: list[dict[str, object]] = json.loads(str(rows or "[]"))
    return found
