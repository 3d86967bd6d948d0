"""A link that another one has taken over: nothing of it is written, and nothing goes down it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any
from unittest.mock import AsyncMock
from uuid import UUID

import pytest
from mosaic_controlplane.mesh import host_events
from mosaic_controlplane.mesh.held_link import Downward, HeldLink
from mosaic_controlplane.mesh.host_events import RunBegan, Step
from mosaic_controlplane.mesh.links import Links
from mosaic_controlplane.mesh.messages import Draft, Messages
from mosaic_controlplane.mesh.wakes import Wakes
from mosaic_controlplane.register import host
from mosaic_controlplane.register.agent import SeatReportRow
from mosaic_controlplane.register.database import Database
from mosaic_controlplane.register.host import LinkKey, LinkSuperseded
from mosaic_framework.errors import FleetError
from mosaic_framework.ids import new_id

from tests.support.register_rows import Site, make_site


class Writer:
    """Everything that a link brings up, each as one call."""

    def __init__(self, site: Site, seat: UUID, message_id: UUID) -> None:
        self.site, self.seat, self.message_id = site, seat, message_id
        self.wakes = Wakes(site.database, site.replica_id)
        self.links = Links(site.database, self.wakes, site.replica_id)

    async def seats(self, key: LinkKey) -> None:
        row = SeatReportRow(self.seat, "working", "screen", "", timedelta(0), None, 42, "", "", None, 1)
        await self.links.report_seats(key, [row])

    async def a_step(self, key: LinkKey) -> None:
        step = Step(self.message_id, "dispatched", "journal", "", "", timedelta(0))
        await host_events.record(self.site.database, self.wakes, key, [step], newest=3)

    async def a_run(self, key: LinkKey) -> None:
        run = RunBegan(new_id(), self.seat, "", "", timedelta(0))
        await host_events.record(self.site.database, self.wakes, key, [run], newest=3)

    async def a_reason(self, key: LinkKey) -> None:
        await host_events.record_waits(self.site.database, self.wakes, key, {self.message_id: "a draft stands there"})

    async def a_generation(self, key: LinkKey) -> None:
        await self.links.applied(key, 1)

    async def unmanaged_sessions(self, key: LinkKey) -> None:
        await self.links.unmanaged(key, b"told")

    async def ready(self, key: LinkKey) -> None:
        await self.links.ready(key)

    async def its_end(self, key: LinkKey) -> None:
        await self.links.close(key)

    async def a_beat(self, key: LinkKey) -> None:
        async with self.site.database.connection() as connection:
            await host.flush_beats(connection, {key: timedelta(0)})

    async def rows(self) -> list[str]:
        """All that the register has of hosts, seats, runs and messages."""
        query = """
            select to_jsonb(h)::text from fleet.host h
            union all select to_jsonb(a)::text from fleet.agent a
            union all select to_jsonb(r)::text from fleet.run r
            union all select to_jsonb(m)::text from fleet.message m
            union all select to_jsonb(s)::text from fleet.message_step s
            order by 1"""
        async with self.site.database.connection() as connection:
            return [row[0] for row in await connection.fetch(query)]


WRITES: dict[str, Callable[[Writer, LinkKey], Awaitable[None]]] = {
    name: write for name, write in vars(Writer).items() if name not in ("rows", "__init__") and callable(write)
}


@pytest.fixture
async def site(database: Database) -> Site:
    site = await make_site(database)
    await site.apply("coder0")
    return site


@pytest.fixture
async def writer(site: Site) -> Writer:
    draft = Draft(new_id(), "coder0", "hello")
    messages = Messages(site.database, Wakes(site.database, site.replica_id))
    await messages.send(draft, caller=site.operator, tenant_id=site.tenant_id)
    return Writer(site, await site.agent_id("coder0"), draft.message_id)


@pytest.mark.parametrize("name", WRITES)
async def test_what_a_superseded_link_brings_up_changes_nothing_and_the_same_of_its_successor_does(
    site: Site, writer: Writer, name: str
) -> None:
    old = await site.link()
    new = await site.link(journal_epoch=old.link_epoch, ready=False)
    before = await writer.rows()
    outcome = await asyncio.gather(WRITES[name](writer, old), return_exceptions=True)
    assert outcome == [None] or isinstance(outcome[0], LinkSuperseded)
    assert await writer.rows() == before
    await WRITES[name](writer, new)
    assert await writer.rows() != before


def held(key: LinkKey) -> tuple[HeldLink, AsyncMock]:
    """A link, and what is pushed down it."""
    pushed = AsyncMock()
    ways: dict[str, Any] = {name: getattr(pushed, name) for name in Downward.__dataclass_fields__}
    return HeldLink(key, "alpha", Downward(**ways)), pushed


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


async def test_nothing_goes_down_a_link_that_another_replicas_has_superseded(site: Site, writer: Writer) -> None:
    old = await site.link()
    await site.link(journal_epoch=old.link_epoch)
    link, pushed = held(old)
    with pytest.raises(LinkSuperseded):
        await asyncio.wait_for(writer.links.hold(link), 10)
    assert pushed.mock_calls == []


async def test_an_older_link_that_comes_late_to_its_place_does_not_end_its_successor(
    site: Site, writer: Writer
) -> None:
    old = await site.link()
    new = await site.link(journal_epoch=old.link_epoch)
    successor, pushed = held(new)
    holding = asyncio.create_task(writer.links.hold(successor))
    try:
        await until(lambda: pushed.dispatch.await_count == 1)
        late, _ = held(old)
        with pytest.raises(FleetError):
            await asyncio.wait_for(writer.links.hold(late), 10)
        assert not successor.ended.is_set()
        assert writer.links.held(site.host_id, "alpha") is successor
    finally:
        holding.cancel()
        await asyncio.gather(holding, return_exceptions=True)
