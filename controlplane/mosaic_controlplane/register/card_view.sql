-- name: page
-- Cards of one status, oldest first.
select c as card from fleet.card c
where c.tenant_id = $1 and c.status = $2 and c.seq > $3 and c.seq > 0
  and ($4::text = '' or c.required_class = $4) and c.labels @> $5::text[] and ($6::text = '' or c.mission = $6)
  and ($7::text = '' or c.phase = $7) and ($8::text = '' or c.status = 'claimed' and c.holder_name = $8)
  and ($9::text = '' or c.repository = $9)
  and ($10::text = '' or position(lower($10) in lower(c.title)) > 0 or position(lower($10) in lower(c.card_id)) > 0)
  and ($11::text = '' or $11 = any(c.goals)) and ($12::text = '' or $12 = any(c.requirements))
order by c.seq
limit $13

-- name: page_ready
-- What can be claimed now, in the order of claims.
select c as card from fleet.card c
where c.tenant_id = $1 and c.status = 'ready' and c.unmet = 0 and (-c.priority, c.seq) > ($2::integer, $3::bigint)
  and ($4::text = '' or c.required_class = $4) and c.labels @> $5::text[] and ($6::text = '' or c.mission = $6)
  and ($7::text = '' or c.phase = $7) and ($8::text = '' or c.status = 'claimed' and c.holder_name = $8)
  and ($9::text = '' or c.repository = $9)
  and ($10::text = '' or position(lower($10) in lower(c.title)) > 0 or position(lower($10) in lower(c.card_id)) > 0)
  and ($11::text = '' or $11 = any(c.goals)) and ($12::text = '' or $12 = any(c.requirements))
order by -c.priority, c.seq
limit $13

-- name: counts
select c.status, c.unmet = 0 as free, c.required_class, count(*) as cards, sum(c.spent_cost_micros)::bigint as spent_cost_micros,
  sum(c.spent_tokens)::bigint as spent_tokens, sum(c.spent_seconds)::bigint as spent_seconds,
  sum(c.estimate_cost_micros)::bigint as estimate_cost_micros, sum(c.estimate_tokens)::bigint as estimate_tokens,
  sum(c.estimate_seconds)::bigint as estimate_seconds,
  count(*) filter (where c.status = 'claimed' and c.lease_until < now()) as leases_over
from fleet.card c where c.tenant_id = $1
group by 1, 2, 3

-- name: oldest_ready
select c.card_id, c.ready_since from fleet.card c
where c.tenant_id = $1 and c.status = 'ready' and c.unmet = 0
order by c.ready_since limit 1

-- name: flow
-- Of the transitions within the window: how many, and how long each had waited.
select e.kind, count(*) as events,
  percentile_cont(0.5) within group (order by extract(epoch from e.waited)) as p50,
  percentile_cont(0.95) within group (order by extract(epoch from e.waited)) as p95
from fleet.card_event e
where e.tenant_id = $1 and e.at > now() - $2::interval and e.kind in ('claimed', 'completed', 'expired')
group by e.kind

-- name: verify
-- Everything that is kept about a card although it follows from other rows, computed anew; only what differs is returned.
with edges as (
  select e.card_id, count(*) filter (where d.status <> 'done') as unmet, max(d.depth) + 1 as depth
  from fleet.card_edge e join fleet.card d on d.tenant_id = e.tenant_id and d.card_id = e.depends_on
  where e.tenant_id = $1 group by e.card_id
), newest as (
  select distinct on (e.card_id) e.card_id, e.status, e.fence
  from fleet.card_event e where e.tenant_id = $1 order by e.card_id, e.event_id desc
), found as (
  select c.card_id, what, kept, right_one
  from fleet.card c
  left join edges on edges.card_id = c.card_id
  left join newest on newest.card_id = c.card_id
  cross join lateral (values
    ('unmet', c.unmet::text, coalesce(edges.unmet, 0)::text),
    ('depth', c.depth::text, coalesce(edges.depth, 0)::text),
    ('lease', (c.lease_until is not null)::text, (c.status = 'claimed')::text),
    ('ready since', (c.ready_since is not null)::text, (c.status = 'ready' and c.unmet = 0)::text),
    ('history', c.status || ' ' || c.fence, coalesce(newest.status || ' ' || newest.fence, 'none'))
  ) as kept_of (what, kept, right_one)
  where c.tenant_id = $1
)
select card_id, what, kept, right_one as found from found where kept is distinct from right_one
order by card_id, what
limit $2

-- name: size
select (select count(*) from fleet.card where tenant_id = $1) as cards,
  (select count(*) from fleet.card_edge where tenant_id = $1) as edges
