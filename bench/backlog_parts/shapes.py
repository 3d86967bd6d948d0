"""Backlogs of any size in four shapes, loaded past the service: ours, and the same one for the plain algorithm."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

import asyncpg

WIDE = 10_000


@dataclass(frozen=True)
class Shape:
    """What is loaded for `n` from 1 to size, as SQL. `needs`: the number of the card it depends on, or null."""

    name: str
    status: str = "'ready'"
    needs: str = "null::bigint"
    priority: str = "0"

    def claimable(self, size: int) -> int:
        """Return about how many cards of `size` can be claimed at first."""
        few = {"half done": size // 2, "blocked prefix": size // 10, "wide": size - min(WIDE, size // 2)}
        return few.get(self.name, size)


FLAT = Shape("flat")
HALF_DONE = Shape("half done", "case when n % 2 = 0 then 'done' else 'ready' end", "case when n % 2 = 1 then n + 1 end")
BLOCKED = Shape(
    "blocked prefix",
    needs="case when n <= $2::bigint * 9 / 10 then $2::bigint end",
    priority="case when n <= $2::bigint * 9 / 10 then 9 else 0 end",
)
WIDE_SHAPE = Shape("wide", needs=f"case when n <= least({WIDE}, $2::bigint / 2) then $2::bigint end")
SHAPES = (FLAT, HALF_DONE, BLOCKED, WIDE_SHAPE)

_CARDS = """
insert into fleet.card (tenant_id, card_id, title, body, status, priority, unmet, depth, ready_since, fence, holder_id,
  holder_kind, holder_name, finished_at, made_by_kind, made_by_id, made_by_name)
select $1::uuid, 'c' || lpad(n::text, 9, '0'), 'card ' || n, repeat('what is to be done, in a few words; ', 8), status,
  priority,
  case when needs is null or needed = 'done' then 0 else 1 end, case when needs is null then 0 else 1 end,
  case when status = 'ready' and (needs is null or needed = 'done') then now() end,
  case when status = 'done' then 1 else 0 end,
  case when status = 'done' then $1::uuid end, case when status = 'done' then 'agent' end,
  case when status = 'done' then 'w' end, case when status = 'done' then now() end, 'operator', $1::uuid, 'bench'
from (select n, {status} as status, {priority} as priority, {needs} as needs, {needed} as needed
      from generate_series(1, $2::bigint) n) shape
order by n
"""
_EDGES = """
insert into fleet.card_edge (tenant_id, card_id, depends_on)
select $1::uuid, 'c' || lpad(n::text, 9, '0'), 'c' || lpad(needs::text, 9, '0')
from (select n, {needs} as needs from generate_series(1, $2::bigint) n) shape where needs is not null
"""
_PLAIN = """
create table plain_card (id text primary key, seq bigint, status text, priority integer, depends_on jsonb,
  fence bigint default 0, holder text, lease_until timestamptz, body text);
create index plain_order on plain_card (priority desc, seq) where status = 'ready'
"""
_PLAIN_CARDS = """
insert into plain_card (id, seq, status, priority, depends_on, body)
select 'c' || lpad(n::text, 9, '0'), n, {status}, {priority},
  case when {needs} is null then '[]'::jsonb else jsonb_build_array('c' || lpad(({needs})::text, 9, '0')) end,
  repeat('what is to be done, in a few words; ', 8)
from generate_series(1, $2::bigint) n where $1::uuid is not null
"""


async def load(url: str, shape: Shape, size: int, *, tenant_id: UUID) -> None:
    """Load `size` cards of a shape."""
    # Of the shapes here only "half done" has dependencies that are done: all of them.
    needed = "'done'" if shape is HALF_DONE else "'ready'"
    words = {"status": shape.status, "priority": shape.priority, "needs": shape.needs, "needed": needed}
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("set synchronous_commit = off")
        await connection.execute("insert into fleet.tenant (tenant_id, name) values ($1, 'default')", tenant_id)
        await connection.execute(_CARDS.format(**words), tenant_id, size, timeout=900)
        await connection.execute(_EDGES.format(**words), tenant_id, size, timeout=900)
    finally:
        await connection.close()


async def load_plain(url: str, shape: Shape, size: int, *, tenant_id: UUID) -> None:
    """Load the same for the plain algorithm, in which each card has a jsonb array of what it depends on."""
    words = {"status": shape.status, "priority": shape.priority, "needs": shape.needs}
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(_PLAIN)
        await connection.execute(_PLAIN_CARDS.format(**words), tenant_id, size, timeout=900)
    finally:
        await connection.close()
