-- name: work
-- What is done ($2), then the best ready cards, at most $7, given to the requests in their order ($8 …): one statement, one
-- commit. The pause is read here, so that no path goes past it. Nothing waits for a lock: what another claim has locked is
-- passed over, and what becomes claimable by this very statement is found by the next. ($3, $4) is where to begin in the order
-- of claims; see backlog/claiming.py.
select 'done' as what, done.slot as place, null::uuid as request_id, done.refusal, done.freed_rank, done.freed_seq, done.card
from fleet.complete_cards($1, $2::jsonb) as done
union all
select 'taken', taken.place, taken.request_id, '', null, null, taken.card
from fleet.take_cards($1, array(
  select c.card_id from fleet.card c
  where c.tenant_id = $1 and c.status = 'ready' and c.unmet = 0 and (-c.priority, c.seq) >= ($3::integer, $4::bigint)
    and ($5::text[] is null or c.required_class = any($5)) and c.labels @> $6::text[]
    and not (select t.paused from fleet.tenant t where t.tenant_id = $1)
  order by -c.priority, c.seq
  limit $7
  for no key update of c skip locked
), $8::uuid[], $9::integer[], $10::uuid[], $11::text[], $12::uuid[], $13::text[], $14::interval[]) as taken

-- name: claim_one
select taken.request_id, taken.place, taken.card
from fleet.take_cards($1, array(
  select c.card_id from fleet.card c
  where c.tenant_id = $1 and c.card_id = $2 and c.status = 'ready' and c.unmet = 0
    and ($3::text[] is null or c.required_class = any($3)) and c.labels @> $4::text[]
    and not (select t.paused from fleet.tenant t where t.tenant_id = $1)
  for no key update of c
), array[$5::uuid], array[0], array[$6::uuid], array[$7::text], array[$8::uuid], array[$9::text], array[$10::interval]) as taken

-- name: claimed_by_requests
-- What these requests claimed when they were made before, and the cards as they are now. It is written down that they were
-- told: whichever of this and give_back locks the event first decides.
with again as (
  update fleet.card_event e set details = '{"asked_again": "true"}'
  from unnest($2::uuid[], $3::uuid[]) as asked (request_id, actor_id)
  where e.request_id = asked.request_id and e.actor_id = asked.actor_id and e.kind = 'claimed'
  returning e.request_id, e.request_place, e.fence, e.card_id
)
select e.request_id, e.request_place as place, e.fence, c.card, now() as at
from again e
cross join lateral (select k as card from fleet.card k where k.tenant_id = $1 and k.card_id = e.card_id offset 0) c
order by e.request_id, e.request_place

-- name: give_back
-- The claims of a request that nobody was told of, undone but for the fence and the history. The event forgets the request,
-- which may be made again as one that is new.
with undone as (
  update fleet.card_event e set request_id = null
  where e.request_id = $2 and e.actor_id = $3 and e.kind = 'claimed' and e.details is null
  returning e.card_id, e.fence, e.actor_kind, e.actor_name, e.run_id
), moved as (
  update fleet.card c set status = 'ready', reason = '', fence = c.fence + 1, attempts = greatest(c.attempts - 1, 0),
    expired = false, lease_until = null, renew_until = null, changed_at = now(),
    ready_since = case when c.unmet = 0 then now() end
  from undone u
  where c.tenant_id = $1 and c.card_id = any(array(select card_id from undone)) and c.card_id = u.card_id
    and c.fence = u.fence and c.status = 'claimed'
  returning c as card, c.card_id, c.fence, u.actor_kind, u.actor_name, u.run_id
), noted as (
  insert into fleet.card_event (tenant_id, card_id, kind, status, fence, actor_kind, actor_id, actor_name, run_id, reason)
  select $1, m.card_id, 'released', 'ready', m.fence, m.actor_kind, $3, m.actor_name, m.run_id,
    'whoever asked was gone before the answer'
  from moved m
)
select card from moved

-- name: paused
select paused, coalesce(paused_by, '') as by, paused_at as at, paused_reason as reason from fleet.tenant where tenant_id = $1

-- name: pause
update fleet.tenant set paused = $2, paused_by = $3, paused_at = now(), paused_reason = $4
where tenant_id = $1 and paused is distinct from $2
returning tenant_id
