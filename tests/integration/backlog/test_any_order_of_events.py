"""Whatever many clients do, in whatever order, and wherever they die: the history keeps every promise."""

from __future__ import annotations

import pytest
from mosaic_controlplane.register.database import Database

from tests.support.backlog import open_yards
from tests.support.backlog_simulation import Simulation

STEPS = 1_500


@pytest.mark.parametrize("seed", [1, 2])
async def test_no_promise_is_broken_and_no_card_forgotten(database: Database, seed: int) -> None:
    async with open_yards(database, replicas=3) as yards:
        simulation = Simulation(yards, seed=seed)
        await simulation.watch()
        await simulation.run(STEPS)
        assert await simulation.violations() == []
        await simulation.drain()
        assert await simulation.violations() == []
        left = await database.pool.fetch("select card_id, status, unmet from fleet.card where status <> 'done'")
        assert [dict(row) for row in left] == []
        kinds = {row["kind"] for row in await database.pool.fetch("select distinct kind from fleet.card_event")}
        assert {"claimed", "completed", "released", "blocked", "expired", "reclaimed", "linked", "unlinked"} <= kinds
        assert simulation.killed > 100
        assert simulation.cuts > 0


async def test_without_the_fence_the_same_clients_break_promises(database: Database) -> None:
    async with open_yards(database, replicas=3) as yards:
        simulation = Simulation(yards, seed=3)
        await simulation.watch(fence=False)
        await simulation.run(STEPS)
        found = await simulation.violations()
    assert any("by another than its holder" in one for one in found)
