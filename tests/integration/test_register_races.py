"""Two things at once in the register: nothing deadlocks, nothing is given twice, nothing is forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from datetime import timedelta
from typing import Any, cast
from uuid import UUID

import pytest
from mosaic_controlplane.api.host_link import HostLinkService, LinkUnread
from mosaic_controlplane.backlog.backlog import Backlog
from mosaic_controlplane.identity.caller import Caller, calling
from mosaic_controlplane.mesh import rosters
from mosaic_controlplane.mesh.links import Links
from mosaic_controlplane.mesh.liveness import Liveness
from mosaic_controlplane.mesh.messages import Draft, MessageReused, Messages
from mosaic_controlplane.mesh.wakes import Wakes
from mosaic_controlplane.register import agent, host, message, replica
from mosaic_controlplane.register.agent import SeatReportRow
from mosaic_controlplane.register.database import Connection, Database
from mosaic_controlplane.register.host import LinkKey
from mosaic_framework.errors import NotFound
from mosaic_framework.ids import new_id
from mosaic_proto.v1 import host_link_pb2 as pb

from tests.support.register_rows import Site, make_site, wanted_seat

BLOCKED_SECONDS = 0.3  # long enough for the other side to come to the lock it waits for


@pytest.fixture
async def site(database: Database) -> Site:
    site = await make_site(database)
    await site.apply("coder0", "coder1")
    return site


@pytest.fixture
def messages(site: Site) -> Messages:
    return Messages(site.database, Wakes(site.database, site.replica_id))


def working(agent_id: UUID) -> SeatReportRow:
    return SeatReportRow(agent_id, "working", "screen", "", timedelta(0), None, 1, "", "", None, 1)


async def send(site: Site, messages: Messages, *, to: str) -> UUID:
    draft = Draft(new_id(), to, "hello")
    await messages.send(draft, caller=site.operator, tenant_id=site.tenant_id)
    return draft.message_id


async def dispatched(connection: Connection, site: Site, message_id: UUID) -> bool:
    return await message.step(
        connection,
        tenant_id=site.tenant_id,
        host_id=site.host_id,
        message_id=message_id,
        name="dispatched",
        reason="",
        age=timedelta(0),
        source="journal",
        detail="",
    )


async def offered(site: Site, link: LinkKey) -> list[UUID]:
    async with site.database.connection() as connection:
        return [offer.message_id for offer in await message.offer(connection, link)]


async def apply(site: Site, *names: str, model: str = "") -> None:
    async with site.database.transaction() as connection:
        done = await rosters.apply(
            connection,
            tenant_id=site.tenant_id,
            document="{}",
            wanted=[wanted_seat(name, model=model) for name in names],
            base_version=site.version,
            default_host="",
            applied_by="anna",
        )
    site.version = done.version


async def act(site: Site, *targets: str) -> None:
    async with site.database.transaction() as connection:
        await rosters.act(connection, tenant_id=site.tenant_id, action="restart", targets=targets)


@pytest.mark.parametrize("change", ["apply", "restart"])
async def test_a_host_that_reports_while_its_seats_are_changed_deadlocks_with_nobody(site: Site, change: str) -> None:
    key = await site.link()
    seat = await site.agent_id("coder0")
    async with site.database.transaction() as connection:
        await host.hold_link(connection, key)
        changing = asyncio.create_task(
            apply(site, "coder0", "coder1", model="big") if change == "apply" else act(site, "coder0")
        )
        await asyncio.sleep(BLOCKED_SECONDS)
        await agent.report_seats(connection, tenant_id=site.tenant_id, host_id=site.host_id, reports=[working(seat)])
    await changing


async def test_a_host_that_acknowledges_messages_while_it_is_offered_them_deadlocks_with_nobody(
    site: Site, messages: Messages
) -> None:
    seats = {name: await site.agent_id(name) for name in ("coder0", "coder1")}
    first, last = [await send(site, messages, to=name) for name in sorted(seats, key=lambda name: seats[name])]
    old = await site.link()
    assert await offered(site, old) == [first, last]
    link = await site.link(journal_epoch=old.link_epoch)
    async with site.database.transaction() as connection:
        await host.hold_link(connection, link)
        assert await dispatched(connection, site, last)
        offering = asyncio.create_task(offered(site, link))
        await asyncio.sleep(BLOCKED_SECONDS)
        assert await dispatched(connection, site, first)
    await offering
    assert await offered(site, link) == []


async def test_a_message_offered_as_another_journal_takes_over_is_given_to_one_of_them_only(
    site: Site, messages: Messages
) -> None:
    old = await site.link()
    message_id = await send(site, messages, to="coder0")
    journal_id = new_id()
    async with site.database.transaction() as connection:
        opened = await host.open_link(
            connection,
            tenant_id=site.tenant_id,
            host_id=site.host_id,
            identity_epoch=1,
            replica_id=site.replica_id,
            journal_id=journal_id,
            journal_epoch=0,
            journal_sequence=None,
            version="0",
            machine="m",
            observed_generation=0,
        )
        assert opened.journal_replaced
        await message.journal_replaced(connection, tenant_id=site.tenant_id, host_id=site.host_id, reason="")
        offering = asyncio.create_task(offered(site, old))
        await asyncio.sleep(BLOCKED_SECONDS)
    new = LinkKey(site.tenant_id, site.host_id, opened.link_epoch)
    async with site.database.connection() as connection:
        await host.confirm_link(connection, new)
    given = [*await offering, *await offered(site, new)]
    assert given == [message_id]


async def replica_of(site: Site, host_name: str) -> tuple[Liveness, LinkKey]:
    """A replica that holds the link of a new host, with a beat to write."""
    replica_id, host_id = new_id(), new_id()
    async with site.database.connection() as connection:
        await connection.execute(
            "insert into fleet.host (tenant_id, host_id, name, state, link_epoch, last_beat_at, stale_at, lease_until)"
            " values ($1, $2, $3, 'live', 1, now() - interval '1 minute', now() + interval '1 s',"
            " now() + interval '1 s')",
            site.tenant_id,
            host_id,
            host_name,
        )
        await replica.arrive(connection, replica_id=replica_id, address="127.0.0.1:1", version="0")
    wakes = Wakes(site.database, replica_id)
    links = Links(site.database, wakes, replica_id)
    key = LinkKey(site.tenant_id, host_id, 1)
    links.beat(key)
    return Liveness(site.database, wakes, links, replica_id, "127.0.0.1:1"), key


async def test_two_replicas_that_judge_hosts_at_once_deadlock_with_nobody(site: Site) -> None:
    replicas = [(await replica_of(site, name))[0] for name in ("beta", "gamma")]
    async with site.database.connection() as connection:  # the control plane was away: every lease is to be extended
        await connection.execute("update fleet.cluster set liveness_tick_at = now() - interval '10 seconds'")
    async with site.database.transaction() as connection:
        await connection.execute("select from fleet.cluster for update")
        ticks = [asyncio.create_task(liveness.tick()) for liveness in replicas]
        await asyncio.sleep(BLOCKED_SECONDS)
    outcomes: Sequence[object] = await asyncio.gather(*ticks, return_exceptions=True)
    assert outcomes == [None, None]


async def test_after_a_long_absence_a_host_that_falls_silent_at_once_is_stale_after_three_beats(site: Site) -> None:
    await site.link()
    async with site.database.transaction() as connection:
        await connection.execute("update fleet.cluster set liveness_tick_at = now() - interval '8 hours'")
        await host.tick(connection)
        late = await connection.fetchval("select stale_at > now() + 3 * beat_interval from fleet.host")
        assert not late


async def test_beats_that_could_not_be_written_are_written_by_the_next_tick(site: Site) -> None:
    liveness, key = await replica_of(site, "beta")
    async with site.database.connection() as connection:
        await connection.execute("alter table fleet.host rename to host_away")
    with pytest.raises(Exception, match="host"):
        await liveness.tick()
    async with site.database.connection() as connection:
        await connection.execute("alter table fleet.host_away rename to host")
    await liveness.tick()
    async with site.database.connection() as connection:
        fresh = await connection.fetchval(
            "select last_beat_at > now() - interval '30 seconds' from fleet.host where host_id = $1", key.host_id
        )
    assert fresh


async def test_the_ticks_go_on_after_one_that_failed(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    liveness, _key = await replica_of(site, "beta")
    monkeypatch.setattr("mosaic_controlplane.mesh.liveness.TICK_SECONDS", 0.01)
    async with site.database.connection() as connection:
        await connection.execute("alter table fleet.host rename to host_away")
    running = asyncio.create_task(liveness.run())
    await asyncio.sleep(BLOCKED_SECONDS)
    assert not running.done()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_replica_goes_on_ticking_while_its_housekeeping_takes_long(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    liveness, _key = await replica_of(site, "beta")
    monkeypatch.setattr("mosaic_controlplane.mesh.liveness.TICK_SECONDS", 0.01)
    reached: set[float] = set()
    slow = await site.database.dedicated()
    try:
        await slow.execute("begin")
        await slow.execute("lock table fleet.leaf in access exclusive mode")  # what housekeeping deletes from
        running = asyncio.create_task(liveness.run())
        async with asyncio.timeout(8):  # a statement that is stuck is given up after 10 s
            while len(reached) < 50:
                reached.add(liveness._reached)
                await asyncio.sleep(0.005)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    finally:
        await slow.close()


async def test_a_running_replica_lets_a_large_fleet_beat_more_seldom(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    liveness, _key = await replica_of(site, "beta")
    monkeypatch.setattr("mosaic_controlplane.mesh.liveness.TICK_SECONDS", 0.01)
    async with site.database.connection() as connection:
        await connection.execute(
            "insert into fleet.host (tenant_id, host_id, name, state, stale_at, lease_until)"
            " select $1, gen_random_uuid(), 'h' || n, 'live', now() + interval '1 h', now() + interval '1 h'"
            " from generate_series(1, 2001) n",
            site.tenant_id,
        )
    running = asyncio.create_task(liveness.run())
    try:
        async with asyncio.timeout(20), site.database.connection() as connection:
            while await connection.fetchval("select min(beat_interval) from fleet.host") != timedelta(seconds=10):
                await asyncio.sleep(0.05)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_replica_that_the_register_forgot_comes_back_with_those_who_watch_there(site: Site) -> None:
    wakes = Wakes(site.database, site.replica_id)
    links = Links(site.database, wakes, site.replica_id)
    liveness = Liveness(site.database, wakes, links, site.replica_id, "127.0.0.1:9")
    async with wakes.watching(replica.WakeKey.change(site.tenant_id)):
        async with site.database.connection() as connection:
            await replica.leave(connection, replica_id=site.replica_id)
        await liveness.tick()
        async with site.database.connection() as connection:
            row = await connection.fetchrow("select address, watching from fleet.replica")
    assert row is not None
    assert (row["address"], row["watching"]) == ("127.0.0.1:9", True)


async def test_a_watcher_cancelled_while_it_says_so_leaves_the_next_one_heard(site: Site) -> None:
    wakes = Wakes(site.database, site.replica_id)

    async def watch() -> None:
        async with wakes.watching(replica.WakeKey.change(site.tenant_id)):
            await asyncio.Event().wait()

    async def said(expected: bool) -> bool:
        async with site.database.connection() as connection:
            for _ in range(100):
                if await connection.fetchval("select watching from fleet.replica") is expected:
                    return True
                await asyncio.sleep(0.02)
        return False

    async with site.database.transaction() as connection:
        await connection.execute("select from fleet.replica for update")
        cancelled = asyncio.create_task(watch())
        await asyncio.sleep(BLOCKED_SECONDS)
        cancelled.cancel()
    await asyncio.gather(cancelled, return_exceptions=True)
    later = asyncio.create_task(watch())
    assert await said(True)
    later.cancel()
    await asyncio.gather(later, return_exceptions=True)
    assert await said(False)


async def test_a_host_cannot_claim_to_have_reconciled_what_was_never_wanted(site: Site) -> None:
    key = await site.link()
    async with site.database.connection() as connection:
        await host.set_observed(connection, key, 10**12)
        assert await connection.fetchval("select observed_generation = generation from fleet.host")


@pytest.mark.parametrize("since", ["removed", "removed and added again"])
async def test_a_message_sent_again_gives_its_receipt_though_the_agent_was_removed_since(
    site: Site, messages: Messages, since: str
) -> None:
    draft = Draft(new_id(), "coder1", "hello")
    first = await messages.send(draft, caller=site.operator, tenant_id=site.tenant_id)
    await apply(site, "coder0")
    if since == "removed and added again":
        await apply(site, "coder0", "coder1")
    again = await messages.send(draft, caller=site.operator, tenant_id=site.tenant_id)
    assert (again.message_id, again.recipient_id) == (first.message_id, first.recipient_id)
    with pytest.raises(MessageReused):
        await messages.send(Draft(draft.message_id, "coder1", "other"), caller=site.operator, tenant_id=site.tenant_id)
    if since == "removed":
        with pytest.raises(NotFound):
            await send(site, messages, to="coder1")


async def test_the_call_of_a_host_that_never_reads_ends_with_its_link(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mosaic_controlplane.api.host_link.UNREAD_SECONDS", 0.2, raising=False)
    async with site.database.connection() as connection:
        await connection.execute("update fleet.host set beat_interval = interval '50 milliseconds'")
    wakes = Wakes(site.database, site.replica_id)
    links = Links(site.database, wakes, site.replica_id)
    backlog = Backlog(site.database, site.database, wakes)
    service = HostLinkService(site.database, wakes, links, site.replica_id, list, backlog)

    async def frames() -> AsyncIterator[pb.HostFrame]:
        yield pb.HostFrame(hello=pb.Hello(protocol_version=1, journal_id=str(site.journal_id)))
        await asyncio.Event().wait()

    async def call() -> None:
        host_caller = Caller("host", site.tenant_id, "default", site.host_id, "alpha", "", 1, "")
        with calling(host_caller):
            async with aclosing(cast("Any", service.Link(frames(), cast("Any", None)))) as replies:
                async for _ in replies:
                    await asyncio.Event().wait()  # as a write does while nobody reads

    running = asyncio.create_task(call())
    with pytest.raises(LinkUnread):
        await asyncio.wait_for(running, 5)
    async with site.database.connection() as connection:
        assert await connection.fetchval("select linked_replica is null from fleet.host")
