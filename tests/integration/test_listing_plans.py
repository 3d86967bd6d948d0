"""What a page of the fleet reads does not grow with the fleet, whenever its plan was made and whatever was known then.

A connection makes one plan for all pages after the fifth (a generic one). It must be right at every place of the list.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest
from mosaic_controlplane.register import agent, shared
from mosaic_controlplane.register.database import Connection, Database

from tests.support.register_rows import Site, make_site

SMALL, LARGE = 100, 2_000
SEATS = 8
PAGE = 100


async def fill(site: Site, first: int, size: int) -> None:
    """Bring a tenant from `first` to `size` hosts of 8 seats, each with a run that holds a card."""
    async with site.database.connection() as connection:
        await connection.execute(
            "insert into fleet.host (tenant_id, host_id, name) "
            "select $1, gen_random_uuid(), 'h' || lpad(n::text, 5, '0') from generate_series($2::int, $3) n",
            site.tenant_id,
            first,
            size - 1,
        )
        await connection.execute(
            "with seated as ("
            "  insert into fleet.agent (tenant_id, agent_id, host_id, name, class, runtime, spec, spec_digest, run_id) "
            "  select tenant_id, gen_random_uuid(), host_id, 'a' || n, 'code', 'shell', '', '', gen_random_uuid() "
            "  from fleet.host h cross join generate_series(1, $1) n where h.name between $2 and $3 returning *) "
            "insert into fleet.card (tenant_id, card_id, title, status, run_id, holder_id, holder_kind, claimed_at,"
            "  made_by_kind, made_by_id, made_by_name) "
            "select tenant_id, 'of-' || run_id, 'card', 'claimed', run_id, agent_id, 'agent', now(),"
            "  'operator', agent_id, 'anna' from seated",
            SEATS,
            f"h{first:05}",
            f"h{size - 1:05}",
        )


@asynccontextmanager
async def planned_on_nothing(url: str) -> AsyncIterator[Connection]:
    """A connection on which all is planned now, while there is no seat, and once for whatever is asked."""
    database = await Database.connect(url, pool_size=1, settings={"plan_cache_mode": "force_generic_plan"})
    try:
        async with database.connection() as connection:
            await connection.execute(f"prepare page (uuid, text, text, bigint) as {agent.SQL.list_agents}")
            await connection.execute(f"prepare agents (uuid, uuid[]) as {shared.SQL.agents}")
            await connection.execute(f"prepare hosts (uuid, uuid[]) as {shared.SQL.hosts}")
            await connection.execute("execute page (gen_random_uuid(), '', '', 1)")
            await connection.execute("execute agents (gen_random_uuid(), '{}')")
            await connection.execute("execute hosts (gen_random_uuid(), '{}')")
            yield connection
    finally:
        await database.close()


async def read_by(connection: Connection, statement: str) -> int:
    """Run a statement that returns one page; how many blocks of 8 KiB it looked at."""
    text = await connection.fetchval(f"explain (analyze, buffers, format json) execute {statement}")
    plan: dict[str, Any] = json.loads(text)[0]["Plan"]
    assert plan["Actual Rows"] == PAGE
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


async def read(connection: Connection, site: Site, size: int) -> dict[str, int]:
    """What a page reads at the beginning, in the middle and at the end of so many hosts."""
    found, last = {}, size - PAGE // SEATS - 2
    for name, host, seat in (("first", "", ""), ("middle", f"h{size // 2:05}", "a4"), ("last", f"h{last:05}", "a4")):
        found[name] = await read_by(connection, f"page ('{site.tenant_id}', '{host}', '{seat}', {PAGE})")
    return found


async def read_by_id(connection: Connection, site: Site) -> dict[str, int]:
    """What as many read that are asked for by their ids, as those that have changed are."""
    found = {}
    for what in ("agent", "host"):
        rows = await connection.fetch(f"select {what}_id as id from fleet.{what} order by random() limit $1", PAGE)
        ids = ",".join(str(row["id"]) for row in rows)
        found[what] = await read_by(connection, f"{what}s ('{site.tenant_id}', '{{{ids}}}')")
    return found


@pytest.mark.parametrize("known", [False, True], ids=["planned on nothing", "planned on what there is"])
async def test_a_page_of_a_large_fleet_reads_no_more_than_one_of_a_small_fleet(
    database: Database, database_url: str, known: bool
) -> None:
    site = await make_site(database)
    found: dict[int, dict[str, int]] = {}
    async with planned_on_nothing(database_url) as connection:
        for first, size in pairwise((0, SMALL, LARGE)):
            await fill(site, first, size)
            if known:
                await database.pool.execute("analyze fleet.host, fleet.agent, fleet.card")
            found[size] = await read(connection, site, size)
            # A host's row is found by a scan while there is one page of them, which a plan made then goes on with.
            found[size] |= await read_by_id(connection, site) if known else {}
    for what, blocks in found[LARGE].items():
        assert blocks < 2 * found[SMALL][what], found
