"""A claim whose caller went away before it was told of it strands no card, and takes none from who asked again."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from mosaic_controlplane.backlog.wishes import Wish
from mosaic_framework.ids import new_id

from tests.support.backlog import Yard


async def claim_and_go(yard: Yard, wish: Wish) -> None:
    """Claim, and be cancelled while the claim is being written."""
    async with yard.database.transaction() as connection:
        await connection.execute("lock table fleet.card_event in share mode")
        claim = asyncio.create_task(yard.backlog.claiming.claim(yard.tenant_id, wish))
        async with asyncio.timeout(10):
            while not await connection.fetchval("select exists(select from pg_locks where not granted)"):
                await asyncio.sleep(0.01)
        claim.cancel()
        await asyncio.gather(claim, return_exceptions=True)
    assert claim.cancelled()


async def until_ready(yard: Yard, card_id: str) -> None:
    async with asyncio.timeout(10):
        while await yard.history(card_id) != ["created", "claimed", "released"]:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("card_id", ["", "a"])
async def test_who_goes_away_while_winning_gives_the_card_back_as_if_nobody_had_asked(yard: Yard, card_id: str) -> None:
    await yard.create("a")
    wish = Wish(new_id(), yard.worker(), card_id=card_id)
    await claim_and_go(yard, wish)
    await until_ready(yard, "a")
    card = await yard.card("a")
    assert (card.status, card.fence, card.attempts, card.expired) == ("ready", 2, 0, False)
    (again,) = await yard.backlog.claiming.claim(yard.tenant_id, wish)
    assert (again.fence, again.over) == (3, False)
    assert await yard.verify() == []


async def test_a_card_is_given_back_although_the_connection_breaks_meanwhile(yard: Yard) -> None:
    await yard.create("a")
    wish = Wish(new_id(), yard.worker())
    await yard.backlog.claiming.claim(yard.tenant_id, wish)
    async with yard.database.transaction() as connection:
        await connection.execute("lock table fleet.card_event in share mode")
        giving_back = asyncio.create_task(yard.backlog.claiming._give_back(yard.tenant_id, wish))
        async with asyncio.timeout(10):
            while not await connection.fetchval(
                "select count(pg_terminate_backend(pid)) from pg_locks where not granted"
            ):
                await asyncio.sleep(0.01)
    await giving_back
    await until_ready(yard, "a")


async def test_a_card_given_back_goes_to_whoever_waits(yard: Yard) -> None:
    await yard.create("a")
    running = asyncio.create_task(yard.wakes.run())
    await claim_and_go(yard, Wish(new_id(), yard.worker()))
    (taken,) = await yard.claim(yard.worker(), wait=timedelta(seconds=10))
    assert taken.card.card_id == "a"
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_request_made_again_keeps_what_it_was_told_when_the_first_call_is_found_gone(yard: Yard) -> None:
    await yard.create("a", "b")
    wish = Wish(new_id(), yard.worker(), most=2)
    told = await yard.backlog.claiming.claim(yard.tenant_id, wish)
    again = await yard.backlog.claiming.claim(yard.tenant_id, wish)
    assert [(one.card.card_id, one.fence) for one in told] == [(one.card.card_id, one.fence) for one in again]
    await yard.backlog.claiming._give_back(yard.tenant_id, wish)
    assert {(await yard.card(card_id)).status for card_id in ("a", "b")} == {"claimed"}
    assert (await yard.complete(wish.actor, "a", 1)).status == "done"
