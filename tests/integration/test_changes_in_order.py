"""Changes come in the order of their transactions' numbers, a page at a time, and none is passed over."""

from __future__ import annotations

from uuid import UUID

from mosaic_controlplane.register import change
from mosaic_controlplane.register.change import Cursor
from mosaic_controlplane.register.database import Database
from mosaic_framework.ids import new_id

from tests.support.register_rows import make_site

EARLIER, LATER = 9, 10  # in which order their texts are not


async def test_a_page_that_ends_between_transactions_with_more_and_fewer_digits_passes_over_nothing(
    database: Database,
) -> None:
    tenant_id = (await make_site(database)).tenant_id
    made: list[UUID] = [new_id() for _ in range(4)]
    for xid, ids in ((LATER, made[2:]), (EARLIER, made[:2])):
        for one in ids:
            await database.pool.execute(
                "insert into fleet.change (tenant_id, xid, kind, id) values ($1, $2::text::xid8, 'agent', $3)",
                tenant_id,
                str(xid),
                one,
            )
    cursor, heard = Cursor(new_id(), 0, 0), []
    async with database.connection() as connection:
        while page := await change.after(connection, tenant_id=tenant_id, cursor=cursor, limit=1):
            heard += [one.id for one in page if one.xid <= LATER]
            cursor = cursor.at(page[-1].xid, page[-1].seq)
    assert heard == made


async def test_a_page_of_changes_reads_a_page_however_many_are_to_come(database: Database) -> None:
    tenant_id = (await make_site(database)).tenant_id
    await database.pool.execute(
        "insert into fleet.change (tenant_id, kind, id) "
        "select $1, 'agent', gen_random_uuid() from generate_series(1, 20000)",
        tenant_id,
    )
    async with database.connection() as connection:
        await connection.execute("set plan_cache_mode = force_generic_plan")
        await connection.execute(f"prepare changes (text, bigint, uuid, bigint, text) as {change.SQL.after}")
        lines = await connection.fetch(f"explain (analyze, buffers) execute changes ('0', 0, '{tenant_id}', 100, null)")
        await connection.execute("deallocate changes")
    plan = "\n".join(line[0] for line in lines)
    assert "Sort" not in plan, plan
