-- name: add
insert into fleet.card (tenant_id, card_id, title, body, mission, phase, priority, acceptance, labels, required_class, urgency,
  estimate_cost_micros, estimate_tokens, estimate_seconds, estimate_basis, goals, requirements, repository, branch, head,
  pull_request, evidence, gated, attempt_limit, time_limit, idempotency_key, draft_digest, unmet, depth, made_by_kind,
  made_by_id, made_by_name, ready_since)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25,
  $26, $27, $28, $29, $30, $31, $32, case when $28 = 0 then now() end)

-- name: bring_in
-- A card as it was exported. A claimed one is ready: its holder is not known here.
insert into fleet.card (tenant_id, card_id, title, body, mission, phase, priority, acceptance, labels, required_class, urgency,
  estimate_cost_micros, estimate_tokens, estimate_seconds, estimate_basis, goals, requirements, repository, branch, head,
  pull_request, evidence, gated, attempt_limit, time_limit, idempotency_key, draft_digest, unmet, depth, made_by_kind,
  made_by_id, made_by_name, ready_since, status, reason, fence, attempts, expired, spent_cost_micros, spent_tokens,
  spent_seconds, result, made_at, changed_at, finished_at, holder_kind, holder_id, holder_name, run_id, claimed_at)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25,
  $26, $27, $28, $29, $30, $31, $32, case when $28 = 0 and $33 = 'ready' then coalesce($34, now()) end, $33, $35, $36, $37,
  $38, $39, $40, $41, $42, $43, $44, $45, $46, $47, $48, $49, $50)

-- name: add_event
insert into fleet.card_event (tenant_id, card_id, at, kind, status, fence, actor_kind, actor_id, actor_name, run_id, reason, details)
values ($1, $2, coalesce($3, now()), $4, $5, $6, $7, $8, $9, $10, $11, $12::jsonb)

-- name: get
select c as card from fleet.card c where c.tenant_id = $1 and c.card_id = any($2::text[])

-- name: by_prefix
-- Ids are compared byte by byte, and hold only ASCII: what begins with a prefix lies between it and its successor.
select c.card_id from fleet.card c
where c.tenant_id = $1 and c.card_id >= $2 and c.card_id < $2 || '~'
order by c.card_id limit 6

-- name: beside
-- Read from the primary key in both directions, so that it costs the same in a backlog of any size.
(select c.card_id from fleet.card c where c.tenant_id = $1 and c.card_id < $2 order by c.card_id desc limit $3)
union all
(select c.card_id from fleet.card c where c.tenant_id = $1 and c.card_id > $2 order by c.card_id limit $3)

-- name: by_keys
select c as card from fleet.card c where c.tenant_id = $1 and c.idempotency_key = any($2::text[])

-- name: lock
select c as card from fleet.card c where c.tenant_id = $1 and c.card_id = $2 for no key update of c

-- name: set_content
update fleet.card c set title = $3, body = $4, mission = $5, phase = $6, priority = $7, acceptance = $8, labels = $9,
  required_class = $10, urgency = $11, estimate_cost_micros = $12, estimate_tokens = $13, estimate_seconds = $14,
  estimate_basis = $15, goals = $16, requirements = $17, repository = $18, branch = $19, head = $20, pull_request = $21,
  evidence = $22, gated = $23, attempt_limit = $24, time_limit = $25, changed_at = now()
where c.tenant_id = $1 and c.card_id = $2
returning c as card

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

-- name: everything
-- For an export: in the order of creation.
select c as card from fleet.card c where c.tenant_id = $1 order by c.seq

-- name: history
select at, kind, status, fence, actor_kind, actor_id, actor_name, run_id, reason, details::text as details, waited
from fleet.card_event where tenant_id = $1 and card_id = $2
order by event_id desc limit $3

-- name: histories
select card_id, at, kind, status, fence, actor_kind, actor_id, actor_name, run_id, reason, details::text as details, waited
from fleet.card_event where tenant_id = $1 and card_id = any($2::text[])
order by card_id, event_id

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
