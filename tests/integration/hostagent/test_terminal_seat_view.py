"""One seat's view on a real tmux: fresh pictures at a bounded cost, whatever the program writes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mosaic_hostagent.terminal.view import SeatView

from tests.support.hostagent import World, eventually


@asynccontextmanager
async def a_view(world: World, agent_id: str, *, scrolled: bool = False) -> AsyncIterator[SeatView]:
    view = SeatView(
        lambda: world.supervisor.residents.get(agent_id), lambda one: world.pool.get(one.server), scrolled=scrolled
    )
    task = asyncio.create_task(view.run())
    try:
        yield view
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_what_the_program_writes_is_seen_and_the_tmux_client_goes_with_the_view(world: World) -> None:
    seat = world.seat("worker")
    world.start()
    world.want(seat, generation=1)
    await world.available("worker")
    async with a_view(world, seat.agent_id) as view:
        await world.send(seat, "echo se''en")
        await eventually(lambda: "seen" in "".join(view.feed.rows), f"it is seen: {view.feed.status}")
        assert "worker" in world.private.tmux("list-clients", "-F", "#{client_session}")
    assert "worker" not in world.private.tmux("list-clients", "-F", "#{client_session}")
