"""What a claim and a completion read does not grow with the backlog, even by plans made while it was empty."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from mosaic_controlplane.register.card_claim import HOT_SETTINGS, SQL
from mosaic_controlplane.register.database import Connection, Database
from mosaic_framework.ids import new_id

from tests.support.backlog import Yard

SIZES = (0, 100, 1_000, 20_000, 100_000)
COMPLETED = "uuid, jsonb"
WANTED = "integer, bigint, text[], text[], bigint, uuid[], integer[], uuid[], text[], uuid[], text[], interval[]"
MOST_BUFFERS = 150
"""Of 8 KiB; a claim reads about 40, and a plan that scans 20,000 cards over 300."""


async def fill(yard: Yard, first: int, size: int) -> None:
    """Bring a backlog to `size` cards past the service: half of it done, a blocked prefix, then ready ones."""
    await yard.database.pool.execute(
        "insert into fleet.card (tenant_id, card_id, title, status, unmet, priority, made_by_kind, made_by_id,"
        "  made_by_name, ready_since)"
        " select $1, 'c' || n, 'card', case when n % 2 = 0 then 'done' else 'ready' end, case when n % 5 = 0 then 0"
        "  else 1 end, case when n % 5 = 0 then 0 else 9 end, 'operator', $1, 'anna', now()"
        " from generate_series($2::integer, $3) n",
        yard.tenant_id,
        first,
        size - 1,
    )


@asynccontextmanager
async def prepared(yard: Yard) -> AsyncIterator[Connection]:
    """A hot connection on which the statements are planned now, while the backlog is empty."""
    hot = await Database.connect(yard.database.url, pool_size=1, settings=HOT_SETTINGS)
    try:
        async with hot.connection() as connection:
            await connection.execute(f"prepare work ({COMPLETED}, {WANTED}) as {SQL.work}")
            await explain(connection, claim(yard))
            await explain(connection, complete(yard, "none", 1))
            yield connection
    finally:
        await hot.close()


FROM_THE_FIRST = f"{-(2**31) + 1}, 0, null, '{{}}'"


def claim(yard: Yard, *, holder: str = "") -> str:
    one = holder or str(new_id())
    return (
        f"execute work ('{yard.tenant_id}', '[]', {FROM_THE_FIRST}, 1, '{{{new_id()}}}', '{{0}}', '{{{one}}}',"
        f" '{{agent}}', '{{{one}}}', '{{w}}', '{{900 s}}')"
    )


def complete(yard: Yard, card_id: str, fence: int, *, holder: str = "") -> str:
    one = holder or str(new_id())
    asked = {
        "slot": 0,
        "card_id": card_id,
        "fence": fence,
        "actor_kind": "agent",
        "actor_id": one,
        "actor_name": "w",
        "run_id": one,
        "may_override": True,
        "request_id": str(new_id()),
        "place": 0,
        "result": "",
        "head": "",
        "pull_request": "",
        "evidence": [],
        "cost_micros": 0,
        "tokens": 0,
        "seconds": 0,
    }
    nothing_wanted = "0, '{}', '{}', '{}', '{}', '{}', '{}', '{}'"
    return f"execute work ('{yard.tenant_id}', '{json.dumps([asked])}', {FROM_THE_FIRST}, {nothing_wanted})"


async def explain(connection: Connection, statement: str) -> dict[str, Any]:
    text = await connection.fetchval(f"explain (analyze, buffers, format json) {statement}")
    found: dict[str, Any] = json.loads(text)[0]["Plan"]
    return found


def nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for child in plan.get("Plans", []) for node in nodes(child))]


def buffers(plan: dict[str, Any]) -> int:
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


async def test_a_claim_reads_the_partial_index_at_every_size_by_a_plan_made_on_an_empty_table(yard: Yard) -> None:
    async with prepared(yard) as connection:
        size = 0
        for larger in SIZES:
            await fill(yard, size, larger)
            size = larger
            plan = await explain(connection, claim(yard))
            (scan,) = [node for node in nodes(plan) if node.get("Relation Name") == "card"]
            assert (scan["Node Type"], scan["Index Name"]) == ("Index Scan", "card_ready")
            await explain(connection, claim(yard))  # the first one after growth extends files
            assert buffers(await explain(connection, claim(yard))) < MOST_BUFFERS, size
            assert scan["Actual Rows"] == (1 if size else 0)


async def test_a_completion_reads_no_more_of_a_large_backlog_than_of_a_small_one(yard: Yard) -> None:
    async with prepared(yard) as connection:
        size = 0
        for larger in SIZES[1:]:
            await fill(yard, size, larger)
            size = larger
            holder = str(new_id())
            for _ in range(3):
                await explain(connection, claim(yard, holder=holder))
            held = await yard.database.pool.fetch(
                "select card_id, fence from fleet.card where run_id = $1 and status = 'claimed'", holder
            )
            read = [
                buffers(await explain(connection, complete(yard, one["card_id"], one["fence"], holder=holder)))
                for one in held
            ]
            assert min(read) < MOST_BUFFERS, (size, read)
        done = await yard.database.pool.fetchval("select count(*) from fleet.card_event where kind = 'completed'")
        assert done == 3 * len(SIZES[1:])


async def test_one_card_with_10000_dependants_does_not_slow_down_the_others(yard: Yard) -> None:
    async with prepared(yard) as connection:
        await fill(yard, 0, 31_000)
        await yard.database.pool.execute(
            "insert into fleet.card_edge (tenant_id, card_id, depends_on)"
            " select $1::uuid, 'c' || n, 'c5' from generate_series(6, 10005) n"
            " union all select $1, 'c' || n, 'c' || (n - 1) from generate_series(7, 30005) n",
            yard.tenant_id,
        )
        await yard.database.pool.execute("analyze fleet.card, fleet.card_edge")
        holder = str(new_id())
        await yard.database.pool.execute(
            "update fleet.card set status = 'claimed', fence = 1, run_id = $1, holder_id = $1, holder_kind = 'agent'"
            " where card_id in ('c30015', 'c30025', 'c30035')",
            holder,
        )
        read = [
            buffers(await explain(connection, complete(yard, card_id, 1, holder=holder)))
            for card_id in ("c30015", "c30025", "c30035")
        ]
        assert min(read) < MOST_BUFFERS, read
