"""Claims that run out come back by themselves, once, counted; a card over its limit waits for a person."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from uuid import UUID

import pytest
from mosaic_controlplane.backlog.reaper import DUTY, Reaper
from mosaic_controlplane.backlog.transitions import Under
from mosaic_controlplane.mesh.messages import Messages
from mosaic_controlplane.register import card_lease as lease_table
from mosaic_controlplane.register.card_claim import Actor
from mosaic_controlplane.register.database import Database
from mosaic_controlplane.register.request import RequestReused
from mosaic_controlplane.register.singleton import elected
from mosaic_framework.ids import new_id

from tests.support.backlog import Yard, open_yards, open_yards_of
from tests.support.register_rows import make_site


async def test_a_claim_that_ran_out_is_ready_again_under_the_same_fence_with_the_reason_in_its_history(
    yard: Yard,
) -> None:
    await yard.create("a")
    (a,) = await yard.claim(yard.worker())
    assert await yard.reap() == 0
    await yard.run_out("a")
    assert await yard.claim(yard.worker("other")) == []  # only the reaper makes it claimable
    assert await yard.reap() == 1
    card = await yard.card("a")
    assert (card.status, card.expired, card.fence, card.attempts) == ("ready", True, a.fence, 1)
    assert card.reason == "the lease of worker ran out"
    assert await yard.history("a") == ["created", "claimed", "expired"]
    assert await yard.reap() == 0


async def test_a_card_over_its_attempts_is_blocked_and_an_unblocked_one_counts_anew(yard: Yard) -> None:
    await yard.create("a", attempt_limit=2)
    for attempt in range(2):
        await yard.claim(yard.worker(f"w{attempt}"))
        await yard.run_out("a")
        await yard.reap()
    card = await yard.card("a")
    assert (card.status, card.reason) == ("blocked", "the lease of w1 ran out; attempt 2 of 2")
    assert await yard.claim(yard.worker()) == []
    card = await yard.unblock("a")
    assert (card.status, card.attempts) == ("ready", 0)
    assert len(await yard.claim(yard.worker())) == 1
    assert await yard.verify() == []


async def test_a_card_given_back_as_often_as_it_may_be_tried_is_blocked(yard: Yard) -> None:
    await yard.create("a", attempt_limit=1)
    who = yard.worker()
    (a,) = await yard.claim(who)
    card = await yard.release(who, "a", a.fence, reason="too hard")
    assert (card.status, card.reason) == ("blocked", "given back after 1 of 1 attempts: too hard")


async def test_after_an_outage_of_the_control_plane_every_lease_is_extended_before_any_is_judged(yard: Yard) -> None:
    await yard.create("a")
    who = yard.worker()
    (a,) = await yard.claim(who, lease=timedelta(minutes=5))
    async with yard.database.connection() as connection:
        await connection.execute(
            "update fleet.card set lease_until = now() - interval '1 minute', claimed_at = now() - interval '6 minutes'"
        )
        await connection.execute("update fleet.card_reaper set ticked_at = now() - interval '3 minutes'")
    reaper = Reaper(yard.database, yard.backlog.claiming, yard.wakes)
    async with yard.database.own() as connection:
        assert await reaper.tick(connection) == 0
    card = await yard.card("a")
    assert card.lease_until is not None
    assert card.lease_until - card.changed_at < timedelta(minutes=5)
    assert (await yard.release(who, "a", a.fence)).status == "ready"


async def test_only_one_replica_reaps_and_another_takes_over_when_it_dies(database: Database) -> None:
    async with open_yards(database, replicas=2) as (one, two):
        async with elected(one.database, DUTY) as first:
            assert first is not None
            async with elected(two.database, DUTY) as second:
                assert second is None
        async with elected(two.database, DUTY) as second:
            assert second is not None


async def test_what_the_reaper_writes_goes_over_the_connection_that_holds_its_lock(yard: Yard) -> None:
    await yard.create("a")
    await yard.claim(yard.worker())
    await yard.run_out("a")
    async with yard.database.connection() as connection:  # else its first tick makes up for the time since the last one
        await connection.execute("update fleet.card_reaper set ticked_at = now() + interval '1 minute'")
    narrow = await Database.connect(yard.database.url, pool_size=1)
    try:
        async with narrow.connection():  # no other is to be had there
            reaper = asyncio.create_task(Reaper(narrow, yard.backlog.claiming, yard.wakes, tick_seconds=0.05).run())
            try:
                async with asyncio.timeout(30):
                    while (await yard.card("a")).status != "ready":
                        await asyncio.sleep(0.05)
            finally:
                reaper.cancel()
                await asyncio.gather(reaper, return_exceptions=True)
    finally:
        await narrow.close()


async def test_a_running_reaper_takes_back_without_anybody_asking(yard: Yard) -> None:
    await yard.create("a")
    await yard.claim(yard.worker("gone"), lease=timedelta(seconds=1))
    reaper = asyncio.create_task(Reaper(yard.database, yard.backlog.claiming, yard.wakes, tick_seconds=0.05).run())
    wakes = asyncio.create_task(yard.wakes.run())
    try:
        (taken,) = await yard.claim(yard.worker("next"), wait=timedelta(seconds=30))
    finally:
        reaper.cancel()
        wakes.cancel()
        await asyncio.gather(reaper, wakes, return_exceptions=True)
    assert taken.fence == 2


async def test_reclaim_by_hand_supersedes_the_holder_s_fence(yard: Yard) -> None:
    await yard.create("a", "b")
    who = yard.worker()
    (a,) = await yard.claim(who)
    cards = await yard.backlog.transitions.reclaim(
        yard.tenant_id,
        caller=yard.operator,
        card_ids=["a", "b"],
        agent="",
        expired=False,
        reason="it hangs",
        request_id=new_id(),
    )
    assert [(card.card_id, card.status, card.fence) for card in cards] == [("a", "ready", a.fence + 1)]
    assert (await yard.history("a"))[-1] == "reclaimed"
    assert await yard.verify() == []


async def test_a_reclaim_repeated_after_its_answer_was_lost_takes_nothing_from_the_next_holder(yard: Yard) -> None:
    await yard.create("a")
    await yard.claim(yard.worker("slow"))
    request_id = new_id()

    async def reclaim(agreed: str = "it hangs") -> list[tuple[str, str]]:
        cards = await yard.backlog.transitions.reclaim(
            yard.tenant_id,
            caller=yard.operator,
            card_ids=["a"],
            agent="",
            expired=False,
            reason=agreed,
            request_id=request_id,
        )
        return [(card.card_id, card.status) for card in cards]

    assert await reclaim() == [("a", "ready")]
    (held,) = await yard.claim(yard.worker("next"))
    assert await reclaim() == [("a", "claimed")]
    assert (await yard.card("a")).fence == held.fence
    with pytest.raises(RequestReused):
        await reclaim("for another reason")


async def test_a_pause_repeated_after_its_answer_was_lost_undoes_no_resume(yard: Yard) -> None:
    request_id = new_id()

    async def pause(*, paused: bool, request: UUID) -> tuple[bool, bool]:
        row, changed = await yard.backlog.transitions.pause(
            yard.tenant_id, paused=paused, reason="", caller=yard.operator, request_id=request
        )
        return row.paused, changed

    assert await pause(paused=True, request=request_id) == (True, True)
    assert await pause(paused=False, request=new_id()) == (False, True)
    assert await pause(paused=True, request=request_id) == (False, True)


async def test_a_renewal_never_goes_beyond_the_limit_unless_it_moves_the_limit(yard: Yard) -> None:
    await yard.create("a", time_limit=timedelta(minutes=10))
    who = yard.worker()
    (a,) = await yard.claim(who)

    async def renew(extend: timedelta | None = None) -> timedelta:
        card = await yard.backlog.transitions.renew(
            yard.tenant_id, Under(new_id(), who, "a", a.fence), lease=timedelta(hours=1), extend=extend
        )
        assert card.lease_until is not None
        assert card.claimed_at is not None
        return card.lease_until - card.claimed_at

    assert await renew() == timedelta(minutes=10)
    assert await renew(timedelta(minutes=30)) > timedelta(minutes=29)
    assert (await yard.card("a")).fence == a.fence


async def test_a_host_renews_what_living_runs_of_its_own_seats_hold_and_nothing_else(database: Database) -> None:
    site = await make_site(database)
    await site.apply("coder0")
    link = await site.link()
    async with open_yards_of(site) as yard:
        await yard.create("a", "b", "c")
        coder = Actor("agent", await site.agent_id("coder0"), "coder0", new_id())
        stranger = yard.worker("elsewhere")
        (a,) = await yard.claim(coder, lease=timedelta(seconds=30))
        (b,) = await yard.claim(stranger, lease=timedelta(seconds=30))
        held = await yard.backlog.renew_runs(link, [coder.run_id, stranger.run_id, new_id()])
        assert [(one.card_id, one.run_id, one.fence) for one in held] == [("a", coder.run_id, a.fence)]
        assert timedelta(minutes=4) < held[0].lease_left <= timedelta(minutes=5)
        assert (await yard.card("b")).lease_until == b.card.lease_until


async def test_a_host_that_vouches_for_a_run_renews_up_to_the_limit_of_the_claim_and_no_further(
    database: Database,
) -> None:
    site = await make_site(database)
    await site.apply("coder0")
    link = await site.link()
    async with open_yards_of(site) as yard:
        await yard.create("a", time_limit=timedelta(minutes=2))
        coder = Actor("agent", await site.agent_id("coder0"), "coder0", new_id())
        await yard.claim(coder, lease=timedelta(seconds=30))
        (held,) = await yard.backlog.renew_runs(link, [coder.run_id])
        assert held.lease_left == held.limit_left <= timedelta(minutes=2)
        await database.pool.execute("update fleet.card set lease_until = now() - interval '1 second'")
        assert await yard.backlog.renew_runs(link, [coder.run_id]) == []  # nobody renews what is over


async def test_the_leases_of_a_run_that_has_ended_are_over(database: Database) -> None:
    site = await make_site(database)
    await site.apply("coder0")
    async with open_yards_of(site) as yard:
        await yard.create("a")
        agent_id = await site.agent_id("coder0")
        coder = Actor("agent", agent_id, "coder0", new_id())
        await yard.claim(coder)
        async with database.connection() as connection:
            for host_id in (new_id(), site.host_id):
                assert await yard.reap() == 0
                await lease_table.run_ended(
                    connection, tenant_id=site.tenant_id, run_id=coder.run_id, agent_id=agent_id, host_id=host_id
                )
        assert await yard.reap() == 1


async def test_an_agent_whose_claim_came_to_its_limit_is_told_by_a_message(database: Database) -> None:
    site = await make_site(database)
    await site.apply("coder0")
    async with open_yards_of(site) as yard:
        await yard.create("a", time_limit=timedelta(seconds=1))
        coder = Actor("agent", await site.agent_id("coder0"), "coder0", new_id())
        await yard.claim(coder)
        await database.pool.execute(
            "update fleet.card set lease_until = now() - interval '1 second', renew_until = now() - interval '1 second'"
        )
        await yard.reap()
        card = await yard.card("a")
        assert card.reason == "the claim of coder0 reached the limit of 00:00:01"
        messages = Messages(database, yard.wakes)
        (told,) = await messages.list(tenant_id=site.tenant_id, address="coder0", open_only=True, limit=5)
        message = await messages.receipt(tenant_id=site.tenant_id, message_id=told.message_id)
        assert message.sender_name == "backlog"
        assert "Your claim on card a (card a) has ended" in message.body
