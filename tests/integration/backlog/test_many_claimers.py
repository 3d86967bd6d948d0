"""Many claimers over several replicas: exactly one winner a card, nobody starved while cards remain."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta

import pytest
from mosaic_controlplane.register.card_claim import Actor
from mosaic_controlplane.register.database import Database

from tests.support.backlog import Yard, open_yards

CLAIMERS = 64


async def add_cards(yard: Yard, first: int, count: int) -> None:
    """Add ready cards past the service: it is their claiming that is tried here."""
    await yard.database.pool.execute(
        "insert into fleet.card (tenant_id, card_id, title, made_by_kind, made_by_id, made_by_name, ready_since)"
        " select $1, 'c' || n, 'card', 'operator', $1, 'anna', now() from generate_series($2::integer, $3) n",
        yard.tenant_id,
        first,
        first + count - 1,
    )


async def wins_of_a_round(yards: list[Yard], claimers: list[Actor], *, most: int = 1) -> list[list[str]]:
    taken = await asyncio.gather(*(yards[n % len(yards)].claim(who, most=most) for n, who in enumerate(claimers)))
    return [[one.card.card_id for one in cards] for cards in taken]


@pytest.mark.parametrize(("ready", "rounds"), [(1, 100), (CLAIMERS, 100), (10_000, 100)])
async def test_64_claimers_over_3_replicas_win_each_card_once_and_none_goes_empty_while_cards_remain(
    database: Database, ready: int, rounds: int
) -> None:
    async with open_yards(database, replicas=3) as yards:
        claimers = [yards[0].worker(f"w{n}") for n in range(CLAIMERS)]
        if ready == 10_000:
            await add_cards(yards[0], 0, ready)
        won: Counter[str] = Counter()
        for number in range(rounds):
            if ready < 10_000:
                await add_cards(yards[0], number * ready, ready)
            wins = await wins_of_a_round(yards, claimers)
            won.update(card for cards in wins for card in cards)
            assert sum(map(len, wins)) == min(ready, CLAIMERS)
        assert set(won.values()) == {1}
        left = await yards[0].database.pool.fetchval("select count(*) from fleet.card where status = 'ready'")
        assert left == (10_000 - rounds * CLAIMERS if ready == 10_000 else 0)


async def test_several_wanted_at_once_are_shared_out_so_that_everybody_gets_a_first_one(yard: Yard) -> None:
    await add_cards(yard, 0, 10)
    claimers = [yard.worker(f"w{n}") for n in range(8)]
    wins = await wins_of_a_round([yard], claimers, most=5)
    assert sorted(map(len, wins)) == [1, 1, 1, 1, 1, 1, 2, 2]


async def test_a_card_made_on_one_replica_wakes_who_waits_on_another(database: Database) -> None:
    async with open_yards(database, replicas=2) as (one, two):
        listening = [asyncio.create_task(yard.wakes.run()) for yard in (one, two)]
        try:
            waiting = asyncio.create_task(two.claim(two.worker(), wait=timedelta(seconds=60)))
            while not await database.pool.fetchval("select bool_or(watching) from fleet.replica"):
                await asyncio.sleep(0.01)
            await one.create("a")
            async with asyncio.timeout(4):  # a rescan without a wake comes after 5 s
                (taken,) = await waiting
        finally:
            for task in listening:
                task.cancel()
            await asyncio.gather(*listening, return_exceptions=True)
    assert taken.card.card_id == "a"


async def test_all_who_wait_are_served_when_enough_comes_and_the_others_wait_on(yard: Yard) -> None:
    listening = asyncio.create_task(yard.wakes.run())
    try:
        waiting = [
            asyncio.create_task(yard.claim(yard.worker(f"w{n}"), wait=timedelta(seconds=30 if n < 8 else 2)))
            for n in range(10)
        ]
        await asyncio.sleep(0)
        await add_cards(yard, 0, 5)
        yard.backlog.claiming.claimable(yard.tenant_id)
        done, _ = await asyncio.wait(waiting, timeout=3)
        assert sum(len(task.result()) for task in done) == 5
        await yard.create("d", "e", "f", "g", "h")
        await asyncio.wait(waiting, timeout=20)
        assert sorted(len(task.result()) for task in waiting)[2:] == [1] * 8
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)


async def test_whoever_is_gone_while_it_waits_takes_no_card_from_those_who_wait_on(yard: Yard) -> None:
    listening = asyncio.create_task(yard.wakes.run())
    try:
        gone = [asyncio.create_task(yard.claim(yard.worker(f"gone{n}"), wait=timedelta(seconds=60))) for n in range(8)]
        await asyncio.sleep(0.1)  # all of them have found nothing and wait
        for task in gone:
            task.cancel()
        await asyncio.gather(*gone, return_exceptions=True)
        await yard.create("a")
        (taken,) = await yard.claim(yard.worker("here"), wait=timedelta(seconds=60))
        assert (taken.card.card_id, taken.fence) == ("a", 1)
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)


async def test_whoever_is_gone_before_its_claim_is_carried_out_takes_no_card(yard: Yard) -> None:
    await yard.create("a")
    gone = [asyncio.create_task(yard.claim(yard.worker(f"gone{n}"))) for n in range(8)]
    await asyncio.sleep(0)  # all of them have asked, and the statement has not begun
    for task in gone:
        task.cancel()
    await asyncio.gather(*gone, return_exceptions=True)
    (taken,) = await yard.claim(yard.worker("here"))
    assert (taken.card.card_id, taken.fence) == ("a", 1)


async def test_a_resumed_tenant_wakes_who_waits(yard: Yard) -> None:
    listening = asyncio.create_task(yard.wakes.run())
    try:
        await yard.create("a")
        await yard.pause()
        waiting = asyncio.create_task(yard.claim(yard.worker(), wait=timedelta(seconds=60)))
        while not await yard.database.pool.fetchval("select bool_or(watching) from fleet.replica"):
            await asyncio.sleep(0.01)
        await yard.pause(paused=False)
        async with asyncio.timeout(4):
            assert len(await waiting) == 1
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
