"""What a message and a write promise in the register: one order a seat, one effect an id, time that is left."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from uuid import UUID

import pytest
from mosaic_controlplane.mesh.messages import Draft, Messages
from mosaic_controlplane.mesh.wakes import Wakes
from mosaic_controlplane.register import host, message, request
from mosaic_controlplane.register.database import Database
from mosaic_controlplane.register.message import Offer
from mosaic_framework.ids import new_id

from tests.support.register_rows import Site, make_site


@pytest.fixture
async def site(database: Database) -> Site:
    site = await make_site(database)
    await site.apply("coder0", "coder1")
    return site


@pytest.fixture
def messages(site: Site) -> Messages:
    return Messages(site.database, Wakes(site.database, site.replica_id))


async def offers(site: Site, *, journal_epoch: int = 0) -> list[Offer]:
    link = await site.link(journal_epoch=journal_epoch)
    async with site.database.connection() as connection:
        return await message.offer(connection, link)


async def write(site: Site, request_id: UUID, *, caller: str) -> bytes:
    """Carry out a write that makes a name of its own each time."""

    async def carry_out() -> bytes:
        return new_id().bytes

    async with site.database.transaction() as connection:
        return await request.once(
            connection,
            tenant_id=site.tenant_id,
            caller=caller,
            request_id=request_id,
            method="m",
            payload=b"p",
            write=carry_out,
        )


async def test_messages_sent_at_once_some_of_them_twice_get_one_order_a_seat(site: Site, messages: Messages) -> None:
    drafts = [Draft(new_id(), to, "hello") for _ in range(12) for to in ("coder0", "coder1")]
    repeated = drafts[:6]
    await asyncio.gather(
        *(messages.send(draft, caller=site.operator, tenant_id=site.tenant_id) for draft in drafts + repeated)
    )
    found = await offers(site)
    for name in ("coder0", "coder1"):
        agent_id = await site.agent_id(name)
        order = [offer.seat_seq for offer in found if offer.recipient_id == agent_id]
        assert len(order) == 12
        assert order == sorted(set(order))  # one that is sent twice at the same moment may leave a number out


async def test_more_than_one_offer_can_take_come_in_the_order_of_typing_too(site: Site, messages: Messages) -> None:
    for body in "zyxwv":
        for to in ("coder0", "coder1"):
            await messages.send(Draft(new_id(), to, body), caller=site.operator, tenant_id=site.tenant_id)
    link = await site.link()
    found: list[Offer] = []
    async with site.database.connection() as connection:
        while taken := await message.offer(connection, link, limit=3):
            found += taken
    for name in ("coder0", "coder1"):
        agent_id = await site.agent_id(name)
        assert [offer.seat_seq for offer in found if offer.recipient_id == agent_id] == [1, 2, 3, 4, 5]


async def test_an_offer_carries_the_time_that_is_left_and_a_later_one_less(site: Site, messages: Messages) -> None:
    draft = Draft(new_id(), "coder0", "hello", deadline=timedelta(seconds=60))
    await messages.send(draft, caller=site.operator, tenant_id=site.tenant_id)
    first = (await offers(site))[0].remaining_ms
    assert 50_000 < first <= 60_000
    async with site.database.connection() as connection:
        await connection.execute("update fleet.message set deadline_at = deadline_at - interval '30 seconds'")
    assert (await offers(site, journal_epoch=1))[0].remaining_ms <= first - 29_000
    async with site.database.connection() as connection:
        await connection.execute("update fleet.message set deadline_at = now() - interval '1 second'")
    # Offered before: only the host ends it, which is told that no time is left.
    assert [offer.remaining_ms for offer in await offers(site, journal_epoch=2)] == [0]


async def test_what_a_host_has_is_ended_by_nobody_else_however_late_it_is(site: Site, messages: Messages) -> None:
    draft = Draft(new_id(), "coder0", "hello", deadline=timedelta(seconds=60))
    await messages.send(draft, caller=site.operator, tenant_id=site.tenant_id)
    await offers(site)
    async with site.database.connection() as connection:
        assert await message.step(
            connection,
            tenant_id=site.tenant_id,
            host_id=site.host_id,
            message_id=draft.message_id,
            name="dispatched",
            reason="",
            age=timedelta(0),
            source="journal",
            detail="",
        )
        await connection.execute("update fleet.message set deadline_at = now() - interval '1 day'")
        assert await message.expire(connection) == []
    row = await messages.receipt(tenant_id=site.tenant_id, message_id=draft.message_id)
    assert row.step == "dispatched"


async def test_the_reply_to_a_write_is_kept_for_its_caller_alone_and_for_24_hours(site: Site) -> None:
    request_id = new_id()
    mine = await write(site, request_id, caller="operator:1")
    assert await write(site, request_id, caller="operator:2") != mine
    async with site.database.connection() as connection:
        await connection.execute("update fleet.request set made_at = now() - interval '23 hours 59 minutes'")
        await request.forget_old(connection)
    assert await write(site, request_id, caller="operator:1") == mine
    async with site.database.connection() as connection:
        await connection.execute("update fleet.request set made_at = now() - interval '24 hours 1 minute'")
        await request.forget_old(connection)
        assert await connection.fetchval("select count(*) from fleet.request") == 0


async def test_a_beat_counts_from_when_it_came_and_not_from_when_it_was_written(site: Site) -> None:
    link = await site.link()
    await site.age_host(timedelta(seconds=40))
    async with site.database.transaction() as connection:
        await host.flush_beats(connection, {link: timedelta(seconds=20)})
        age = await connection.fetchval("select now() - last_beat_at from fleet.host")
        assert [state for *_, state in await host.tick(connection)] == ["stale"]
    assert age == timedelta(seconds=20)


async def test_the_register_drops_a_holder_that_fell_silent_within_10_seconds(site: Site) -> None:
    async with site.database.connection() as connection:
        # reset_val: as it was asked for; on a Unix socket, which needs none, the value in force is 0.
        rows = await connection.fetch("select name, reset_val from pg_settings where name like 'tcp_%'")
    asked = {row["name"]: int(row["reset_val"]) for row in rows}
    assert asked["tcp_user_timeout"] == 10_000
    idle, interval, count = (asked[f"tcp_keepalives_{name}"] for name in ("idle", "interval", "count"))
    assert 0 < idle + interval * count <= 10
