"""How long one claim and one completion take, by size and shape, with and without an old snapshot held open."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from uuid import UUID

import asyncpg
from mosaic_controlplane.register.postgres_cluster import Cluster
from mosaic_framework.ids import new_id

from bench.backlog_parts.databases import fresh, vacuumed
from bench.backlog_parts.shapes import Shape, load, load_plain
from bench.backlog_parts.yards import open_yard
from tests.support.backlog import Yard

PLAIN_SECONDS = 10.0
_PLAIN_CLAIM = """
update plain_card set status = 'claimed', fence = fence + 1, holder = $1, lease_until = now() + interval '15 minutes'
where id = (
  select p.id from plain_card p
  where p.status = 'ready' and not exists (
    select 1 from jsonb_array_elements_text(p.depends_on) as needed (id) join plain_card d on d.id = needed.id
    where d.status <> 'done')
  order by p.priority desc, p.seq
  for update skip locked limit 1)
returning id, fence
"""
_PLAIN_COMPLETE = "update plain_card set status = 'done' where id = $1 and fence = $2 and status = 'claimed'"


@dataclass(frozen=True)
class Times:
    """Milliseconds of each claim and each completion."""

    claims: list[float]
    completions: list[float]


def quantile(times: Sequence[float], at: float) -> float:
    """Return the time at which a share `at` of all lies below; 0.5 is the median."""
    return statistics.median(times) if at == 0.5 else sorted(times)[min(len(times) - 1, int(len(times) * at))]


@contextlib.asynccontextmanager
async def old_snapshot(url: str, *, held: bool) -> AsyncIterator[None]:
    """Hold a transaction open, so that nothing that dies from here on can be cleaned up."""
    if not held:
        yield
        return
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("begin isolation level repeatable read; select count(*) from pg_class")
        yield
    finally:
        connection.terminate()


async def ours(cluster: Cluster, shape: Shape, size: int, *, rounds: int, before: int) -> tuple[Times, Times]:
    """Return the times without and with an old snapshot; `before` cards are worked off under it first."""
    url = await fresh(cluster, "latency")
    tenant_id = new_id()
    await load(url, shape, size, tenant_id=tenant_id)
    await vacuumed(url, "fleet.card fleet.card_edge fleet.card_event")
    share = max(10, shape.claimable(size) // 6)
    rounds, before = min(rounds, share), min(before, share)
    async with open_yard(url, tenant_id) as yard:
        found = []
        for held in (False, True):
            async with old_snapshot(url, held=held):
                await work_off(yard, before)
                found.append(await measure(yard, rounds))
    return found[0], found[1]


async def work_off(yard: Yard, cards: int) -> None:
    """Claim and complete so many cards by 16 workers."""

    async def worker(share: int) -> None:
        who = yard.worker()
        for _ in range(share):
            for one in await yard.claim(who):
                await yard.complete(who, one.card.card_id, one.fence)

    await asyncio.gather(*(worker(cards // 16) for _ in range(16)))


async def measure(yard: Yard, rounds: int) -> Times:
    """Claim and complete, one after the other."""
    who, times = yard.worker(), Times([], [])
    for _ in range(rounds + 5):
        began = time.perf_counter()
        (one,) = await yard.claim(who)
        claimed = time.perf_counter()
        await yard.complete(who, one.card.card_id, one.fence)
        times.claims.append((claimed - began) * 1000)
        times.completions.append((time.perf_counter() - claimed) * 1000)
    return Times(times.claims[5:], times.completions[5:])


async def plain(cluster: Cluster, shape: Shape, size: int, *, rounds: int, tenant_id: UUID) -> Times:
    """Return the times of the plain algorithm; it is given ten seconds."""
    url = await fresh(cluster, "plain", migrated=False)
    await load_plain(url, shape, size, tenant_id=tenant_id)
    await vacuumed(url, "plain_card")
    connection = await asyncpg.connect(url, server_settings={"jit": "off"})
    times = Times([], [])
    rounds = min(rounds, max(10, shape.claimable(size) // 6))
    try:
        until = time.perf_counter() + PLAIN_SECONDS
        while len(times.claims) < rounds and time.perf_counter() < until:
            began = time.perf_counter()
            row = await connection.fetchrow(_PLAIN_CLAIM, "w", timeout=300)
            claimed = time.perf_counter()
            assert row is not None
            await connection.execute(_PLAIN_COMPLETE, row["id"], row["fence"])
            times.claims.append((claimed - began) * 1000)
            times.completions.append((time.perf_counter() - claimed) * 1000)
    finally:
        await connection.close()
    return times
