"""What changes at each owner all the time: seats on played hosts, written as if host-agents had reported them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from bench.federation_faults.cluster import Cluster
from bench.federation_faults.layout import CLASSES
from tests.support.owned_rows import Owned

AGENTS = 16
_STATES = ("working", "available", "waiting", "stuck")
_ZONES = ("x1", "x2", "y1")
FAILURES = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)


@asynccontextmanager
async def owned(cluster: Cluster) -> AsyncIterator[Owned]:
    """Lend what the tenant `default` of a cluster owns."""
    register = await asyncpg.connect(cluster.database.url(), timeout=2, command_timeout=2)
    try:
        yield Owned(register, await register.fetchval("select tenant_id from fleet.tenant where name = 'default'"))
    finally:
        register.terminate()


class Played:
    """The played seats of one cluster."""

    def __init__(self, cluster: Cluster, chance: random.Random) -> None:
        self._cluster, self._chance = cluster, chance
        self._made = 0
        self.changes = 0

    async def begin(self) -> None:
        """Make two hosts, and seats of every class."""
        async with owned(self._cluster) as mine:
            for number in range(2):
                await mine.host(f"{self._cluster.name}-played{number}")
            for _ in range(AGENTS):
                await self._add(mine)

    async def change(self, over: asyncio.Event) -> None:
        """Change one thing after another, as far as the register can be reached, until `over`."""
        while not over.is_set():
            try:
                async with owned(self._cluster) as mine:
                    while not over.is_set():
                        await self.once(mine)
                        await asyncio.sleep(self._chance.uniform(0.02, 0.1))
            except FAILURES:
                await asyncio.sleep(0.1)

    async def last(self) -> None:
        """Change the state of nearly every seat once more."""
        async with owned(self._cluster) as mine:
            state = self._chance.choice(_STATES)
            ids = [row["agent_id"] for row in await self._seats(mine) if row["state"] != state]
            await mine.set_state(ids, state)

    async def once(self, mine: Owned) -> None:
        """Change one thing: a state, labels, or which seats there are."""
        seats = await self._seats(mine)
        seat, way = self._chance.choice(seats), self._chance.random()
        if way < 0.7:
            state = self._chance.choice([state for state in _STATES if state != seat["state"]])
            await mine.set_state([seat["agent_id"]], state)
        elif way < 0.85:
            await mine.set_labels(seat["agent_id"], seat["name"], {"zone": self._chance.choice(_ZONES)})
        elif len(seats) >= AGENTS:
            await mine.register.execute(
                "update fleet.agent set removed_at = now() where agent_id = $1", seat["agent_id"]
            )
            await mine.tell()
        else:
            await self._add(mine)
        self.changes += 1

    async def _add(self, mine: Owned) -> None:
        self._made += 1
        name = f"{self._cluster.name}-{self._made}"
        host = await mine.register.fetchval(
            "select host_id from fleet.host where name = $1", f"{self._cluster.name}-played{self._chance.randrange(2)}"
        )
        class_name = CLASSES[self._made % len(CLASSES)]
        await mine.agent(host, name, class_name=class_name, labels={"zone": self._chance.choice(_ZONES)})

    async def _seats(self, mine: Owned) -> list[asyncpg.Record]:
        return await mine.register.fetch(
            "select agent_id, agent.name, agent.state from fleet.agent join fleet.host using (tenant_id, host_id)"
            " where removed_at is null and host.name like '%-played_'"
        )
