"""What becomes of a host that is silent, drained or taken out, and of what its agents have claimed: in the register."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID

import pytest
from mosaic_controlplane.identity.caller import Caller
from mosaic_controlplane.mesh.held_link import HelloFacts
from mosaic_controlplane.mesh.links import Links
from mosaic_controlplane.mesh.wakes import Wakes
from mosaic_controlplane.register import host, host_life
from mosaic_controlplane.register.card_claim import Actor
from mosaic_controlplane.register.database import Database
from mosaic_framework.ids import new_id

from tests.support.backlog import Yard, open_yards_of
from tests.support.register_rows import Site, make_site


@pytest.fixture
async def site(database: Database) -> Site:
    made = await make_site(database)
    await made.apply("worker")
    return made


@pytest.fixture
async def yard(site: Site) -> AsyncIterator[Yard]:
    async with open_yards_of(site) as made:
        await made.create("a", "b")
        yield made


async def seat(site: Site) -> Actor:
    return Actor("agent", await site.agent_id("worker"), "worker", new_id())


async def policy(site: Site, *, lost_after: timedelta | None = None, lost_claims: str | None = None) -> None:
    async with site.database.transaction() as connection:
        await host_life.set_lost_policy(
            connection, tenant_id=site.tenant_id, lost_after=lost_after, lost_claims=lost_claims
        )


async def tick(site: Site) -> list[str]:
    """Judge hosts; the states that changed."""
    async with site.database.transaction() as connection:
        return [state for *_, state in await host.tick(connection)]


async def lease_left(site: Site, card_id: str) -> timedelta:
    async with site.database.connection() as connection:
        left: timedelta = await connection.fetchval(
            "select lease_until - now() from fleet.card where card_id = $1", card_id
        )
    return left


async def test_by_default_a_lost_host_leaves_its_claims_to_their_leases(site: Site, yard: Yard) -> None:
    await site.link()
    await yard.claim(await seat(site))
    before = await lease_left(site, "a")
    await site.age_host(timedelta(minutes=2))
    assert await tick(site) == ["lost"]
    assert timedelta(0) < await lease_left(site, "a") <= before
    assert await yard.reap() == 0


async def test_a_lost_host_gives_its_claims_back_at_once_where_they_are_released(site: Site, yard: Yard) -> None:
    await policy(site, lost_claims="release")
    await site.link()
    await yard.claim(await seat(site))
    await yard.claim(yard.worker("of another host"))
    await site.age_host(timedelta(seconds=20))
    assert await tick(site) == ["stale"]
    assert await yard.reap() == 0, "a host that is only stale keeps them"
    await site.age_host(timedelta(minutes=2))
    assert await tick(site) == ["lost"]
    assert await yard.reap() == 1
    assert ((await yard.card("a")).status, (await yard.card("b")).status) == ("ready", "claimed")


async def test_a_silent_host_keeps_its_claims_to_their_limit_where_they_are_held_and_renews_them_when_it_is_back(
    site: Site, yard: Yard
) -> None:
    await policy(site, lost_claims="hold")
    await site.link()
    await yard.claim(await seat(site), lease=timedelta(minutes=5))
    await site.age_host(timedelta(seconds=20))
    assert await tick(site) == ["stale"]
    assert await lease_left(site, "a") > timedelta(hours=3)
    caller = Caller("host", site.tenant_id, "default", site.host_id, "alpha", "", 1, "")
    links = Links(site.database, Wakes(site.database, site.replica_id), site.replica_id)
    await links.open(caller, HelloFacts(site.journal_id, 1, None, "0", "", 0))
    assert timedelta(minutes=4) < await lease_left(site, "a") <= timedelta(minutes=5)


async def test_a_host_is_lost_after_the_time_that_its_tenant_has_set_also_one_that_is_silent_already(
    site: Site,
) -> None:
    await site.link()
    await policy(site, lost_after=timedelta(minutes=30))
    await site.age_host(timedelta(minutes=5))
    assert await tick(site) == ["stale"]
    await policy(site, lost_after=timedelta(minutes=4))
    assert await tick(site) == ["lost"]


async def test_a_host_that_joins_gets_what_its_tenant_has_set(site: Site) -> None:
    from mosaic_controlplane.register import host_identity

    await policy(site, lost_after=timedelta(minutes=7))
    async with site.database.connection() as connection:
        await host_identity.enrol(connection, tenant_id=site.tenant_id, name="beta")
        (row,) = await host.list_hosts(connection, tenant_id=site.tenant_id, name="beta")
    assert row.lost_after == timedelta(minutes=7)


async def test_an_agent_of_a_drained_host_gets_no_card_by_any_way_and_others_do(site: Site, yard: Yard) -> None:
    who = await seat(site)
    (held,) = await yard.claim(who, "b")
    async with site.database.connection() as connection:
        await host_life.drain(connection, tenant_id=site.tenant_id, name="alpha", by="anna")
        held_now = await host_life.held_by_host(connection, tenant_id=site.tenant_id, host_id=site.host_id)
    assert [(one.agent, one.card_id) for one in held_now] == [("worker", "b")]
    assert await yard.claim(who) == []
    assert (await yard.card("a")).status == "ready"
    assert (await yard.complete(who, "b", held.fence)).status == "done"
    async with site.database.connection() as connection:
        await host_life.undrain(connection, tenant_id=site.tenant_id, name="alpha")
    assert [one.card.card_id for one in await yard.claim(who)] == ["a"]


async def test_a_host_that_has_left_is_not_known_any_more_and_may_join_again(site: Site) -> None:
    from mosaic_controlplane.register import host_identity

    key = await site.link()
    async with site.database.transaction() as connection:
        await host_life.leave(connection, tenant_id=site.tenant_id, host_id=site.host_id)
        assert await host_identity.standing(connection, tenant="default", host_id=site.host_id) is None
        with pytest.raises(host.LinkSuperseded):
            await host.wanted(connection, key)
    with pytest.raises(host.LinkRefused):
        await site.link()
    async with site.database.transaction() as connection:
        assert await host_identity.enrol(connection, tenant_id=site.tenant_id, name="alpha") == (site.host_id, 3)


async def test_a_change_of_pace_finds_every_linked_host_and_makes_none_of_them_late(site: Site) -> None:
    key = await site.link()
    five, ten = timedelta(seconds=5), timedelta(seconds=10)
    async with site.database.connection() as connection:
        assert await host.beating(connection) == (1, five)
        assert await host.with_work(connection, {key: (1, five)}) == []
        await host.set_pace(connection, now=five, new=ten)
        await host.set_pace(connection, now=five, new=timedelta(seconds=60))  # another replica, a moment too late
        assert await host.beating(connection) == (1, ten)
        assert await host.with_work(connection, {key: (1, five)}) == [site.host_id]
        assert await host.with_work(connection, {key: (1, ten)}) == []
    await site.age_host(timedelta(seconds=20))
    assert await tick(site) == []


async def test_the_look_over_all_links_finds_a_newer_link_and_wakes_nobody_else(site: Site) -> None:
    links = Links(site.database, None, site.replica_id)  # type: ignore[arg-type]
    assert await links.look() is None  # no link: nothing is asked
    old = await site.link()
    new = await site.link(journal_epoch=old.link_epoch)
    five = timedelta(seconds=5)
    async with site.database.connection() as connection:
        assert await host.with_work(connection, {old: (1, five)}) == [UUID(str(site.host_id))]
        assert await host.with_work(connection, {new: (1, five)}) == []
