"""NOTIFY: a key and no data, only to replicas where somebody waits, gathered; and what is lost is found by a rescan."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import UUID

import pytest
from mosaic_controlplane.mesh import wakes as wakes_module
from mosaic_controlplane.mesh.links import Links
from mosaic_controlplane.mesh.messages import Draft, Messages
from mosaic_controlplane.mesh.wakes import RESCAN_SECONDS, Wakes
from mosaic_controlplane.register import message, replica
from mosaic_controlplane.register.database import Connection, Database
from mosaic_controlplane.register.replica import WakeKey, channel_of
from mosaic_framework.ids import new_id

from tests.support.register_rows import Site, make_site

QUIET_SECONDS = 0.3  # long enough for a NOTIFY that should not come


@pytest.fixture
async def site(database: Database) -> Site:
    site = await make_site(database)
    await site.apply("coder0")
    return site


@pytest.fixture
async def other(site: Site) -> UUID:
    """A second replica, where nobody waits."""
    replica_id = new_id()
    async with site.database.connection() as connection:
        await replica.arrive(connection, replica_id=replica_id, address="127.0.0.1:2", version="0")
    return replica_id


@asynccontextmanager
async def heard(site: Site, *replica_ids: UUID) -> AsyncIterator[list[tuple[UUID, str]]]:
    """Everything that is notified to these replicas, as it comes."""
    payloads: list[tuple[UUID, str]] = []
    connection = await site.database.dedicated()
    try:
        for replica_id in replica_ids:

            def note(_c: object, _pid: int, _channel: str, payload: object, to: UUID = replica_id) -> None:
                payloads.append((to, str(payload)))

            await connection.add_listener(channel_of(replica_id), note)
        yield payloads
        await asyncio.sleep(QUIET_SECONDS)
    finally:
        await connection.close()


@asynccontextmanager
async def running(wakes: Wakes) -> AsyncIterator[None]:
    task = asyncio.create_task(wakes.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def send(site: Site, wakes: Wakes) -> UUID:
    draft = Draft(new_id(), "coder0", "geheim")
    await Messages(site.database, wakes).send(draft, caller=site.operator, tenant_id=site.tenant_id)
    return draft.message_id


async def raise_to(site: Site, message_id: UUID, name: str) -> None:
    async with site.database.connection() as connection:
        assert await message.step(
            connection,
            tenant_id=site.tenant_id,
            host_id=site.host_id,
            message_id=message_id,
            name=name,
            reason="",
            age=timedelta(0),
            source="screen",
            detail="",
        )


async def test_a_send_wakes_the_replica_that_holds_the_link_with_a_key_and_nobody_else(site: Site, other: UUID) -> None:
    await site.link()
    wakes = Wakes(site.database, site.replica_id)
    async with running(wakes), heard(site, site.replica_id, other) as payloads:
        await send(site, wakes)
    assert payloads == [(site.replica_id, f"host:{site.host_id}")]


async def test_a_change_is_told_only_where_somebody_watches(site: Site, other: UUID) -> None:
    wakes, elsewhere = Wakes(site.database, site.replica_id), Wakes(site.database, other)
    key = WakeKey.change(site.tenant_id)
    async with running(wakes):
        async with heard(site, site.replica_id, other) as payloads:
            wakes.tell(key)
        assert payloads == [], "nobody watches anywhere"
        async with heard(site, site.replica_id, other) as payloads, elsewhere.watching(key):
            wakes.tell(key)
            await asyncio.sleep(QUIET_SECONDS)
        assert payloads == [(other, key.key)]


async def test_a_link_that_is_closed_is_told_to_whoever_watches(site: Site, other: UUID) -> None:
    wakes, elsewhere = Wakes(site.database, site.replica_id), Wakes(site.database, other)
    key = WakeKey.change(site.tenant_id)
    link = await site.link()
    async with running(wakes), heard(site, other) as payloads, elsewhere.watching(key):
        await Links(site.database, wakes, site.replica_id).close(link)
        await asyncio.sleep(QUIET_SECONDS)
    assert payloads == [(other, key.key)]


async def test_what_comes_up_while_one_notify_runs_goes_in_the_next_all_at_once(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    let_go = asyncio.Event()

    async def slow(_connection: Connection, keys: Collection[WakeKey]) -> None:
        calls.append(len(keys))
        await let_go.wait()

    monkeypatch.setattr(replica, "notify", slow)
    wakes = Wakes(site.database, site.replica_id)
    async with running(wakes), asyncio.timeout(10):
        wakes.tell(WakeKey.change(site.tenant_id))
        while not calls:
            await asyncio.sleep(0.01)
        for _ in range(50):
            wakes.tell(WakeKey.message(site.tenant_id, new_id()), WakeKey.change(site.tenant_id))
        let_go.set()
        while len(calls) < 2:
            await asyncio.sleep(0.01)
    assert calls == [1, 51]


async def test_who_waits_looks_again_when_the_listening_connection_was_lost(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wakes_module, "RECONNECT_SECONDS", 0.05)
    wakes = Wakes(site.database, site.replica_id)
    channel = channel_of(site.replica_id)
    async with running(wakes), asyncio.timeout(15):
        with wakes.rescans() as wake:
            await wake.wait()  # set once by the first connect
            wake.clear()
            async with site.database.connection() as connection:
                ended = await connection.fetchval(
                    "select count(pg_terminate_backend(pid)) from pg_stat_activity"
                    " where query like 'LISTEN%' and query like '%' || $1 || '%'",
                    channel,
                )
            assert ended == 1
            await wake.wait()


async def test_a_step_whose_notify_was_lost_is_seen_by_the_rescan(site: Site) -> None:
    deaf = Wakes(site.database, site.replica_id)  # never runs: hears nothing and tells nothing
    message_id = await send(site, deaf)
    seen = asyncio.Event()

    async def follow() -> None:
        follower = Messages(site.database, deaf)
        async for row in follower.follow(tenant_id=site.tenant_id, message_id=message_id, until="submitted"):
            if row.step == "queued":
                seen.set()

    following = asyncio.create_task(follow())
    async with asyncio.timeout(2 * RESCAN_SECONDS):
        await seen.wait()
        await raise_to(site, message_id, "submitted")
        await following


async def test_whoever_was_woken_answers_without_waiting_for_a_write_of_the_register(site: Site) -> None:
    wakes = Wakes(site.database, site.replica_id)
    async with site.database.connection() as watcher, site.database.connection() as connection:
        async with wakes.watching(WakeKey.cards(site.tenant_id)), asyncio.timeout(10):
            assert await watcher.fetchval("select watching from fleet.replica where replica_id = $1", site.replica_id)
            held = connection.transaction()
            await held.start()
            await connection.execute("select from fleet.replica where replica_id = $1 for update", site.replica_id)
        # Left although nobody can write to the replica's row.
        await held.rollback()
        async with asyncio.timeout(10):
            while await watcher.fetchval("select watching from fleet.replica where replica_id = $1", site.replica_id):
                await asyncio.sleep(0.02)
