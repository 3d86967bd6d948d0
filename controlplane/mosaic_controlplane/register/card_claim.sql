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

-- name: hold
-- Locks a card for a write, and says why the write is refused; '' when it is not.
select c as card, fleet.card_refusal(c, $3, $4, $5, $6, $7) as refusal
from fleet.card c where c.tenant_id = $1 and c.card_id = $2
for no key update of c

-- name: written_by
select kind, card_id from fleet.card_event
where request_id = $1 and actor_id = $2 and request_place = 0

-- name: note
insert into fleet.card_event (tenant_id, card_id, kind, status, fence, actor_kind, actor_id, actor_name, run_id, reason,
  details, request_id)
select $1, c.card_id, $3, c.status, c.fence, $4, $5, $6, $7, $8, $9::jsonb, $10
from fleet.card c where c.tenant_id = $1 and c.card_id = $2

-- name: renew
update fleet.card c set
  lease = coalesce($3::interval, c.lease), changed_at = now(),
  renew_until = coalesce(now() + $4::interval, c.renew_until),
  lease_until = least(now() + coalesce($3::interval, c.lease), coalesce(now() + $4::interval, c.renew_until))
where c.tenant_id = $1 and c.card_id = $2
returning c as card

-- name: propose
update fleet.card c set status = 'review', reason = '', expired = false, lease_until = null, renew_until = null,
  ready_since = null, changed_at = now(), branch = coalesce(nullif($3, ''), c.branch),
  head = coalesce(nullif($4, ''), c.head), pull_request = coalesce(nullif($5, ''), c.pull_request),
  evidence = c.evidence || $6::text[], spent_cost_micros = c.spent_cost_micros + $7, spent_tokens = c.spent_tokens + $8,
  spent_seconds = c.spent_seconds + $9
where c.tenant_id = $1 and c.card_id = $2
returning c as card

-- name: release
-- A card that has used up its attempts waits for a person instead of being handed out for ever.
update fleet.card c set status = case when c.attempts >= c.attempt_limit then 'blocked' else 'ready' end,
  reason = case when c.attempts >= c.attempt_limit
           then format('given back after %s of %s attempts: %s', c.attempts, c.attempt_limit, $3::text) else $3::text end,
  fence = c.fence + 1, expired = false, lease_until = null, renew_until = null, changed_at = now(),
  ready_since = case when c.unmet = 0 and c.attempts < c.attempt_limit then now() end,
  spent_cost_micros = c.spent_cost_micros + $4, spent_tokens = c.spent_tokens + $5, spent_seconds = c.spent_seconds + $6
where c.tenant_id = $1 and c.card_id = $2
returning c as card

-- name: block
update fleet.card c set status = 'blocked', reason = $3, fence = c.fence + 1, expired = false, lease_until = null,
  renew_until = null, ready_since = null, changed_at = now(), spent_cost_micros = c.spent_cost_micros + $4,
  spent_tokens = c.spent_tokens + $5, spent_seconds = c.spent_seconds + $6
where c.tenant_id = $1 and c.card_id = $2
returning c as card

-- name: unblock
-- `expired` stays: who held it last may still complete it, as long as nobody else has taken it.
update fleet.card c set status = 'ready', reason = $3, attempts = 0, changed_at = now(),
  ready_since = case when c.unmet = 0 then now() end
where c.tenant_id = $1 and c.card_id = $2
returning c as card

-- name: cancel
update fleet.card c set status = 'cancelled', reason = $3, fence = c.fence + 1, expired = false, lease_until = null,
  renew_until = null, ready_since = null, changed_at = now(), finished_at = now()
where c.tenant_id = $1 and c.card_id = $2
returning c as card

-- name: reclaim
-- By hand: the holder's fence is superseded. Attempts are not judged: it is a person who decides.
with held as (
  select c.card_id from fleet.card c
  where c.tenant_id = $1 and c.status = 'claimed'
    and ($2::text[] is null or c.card_id = any($2)) and ($3::uuid is null or c.holder_id = $3)
  order by c.card_id
  for no key update of c
), moved as (
  update fleet.card c set status = 'ready', reason = $4, fence = c.fence + 1, expired = false, lease_until = null,
    renew_until = null, changed_at = now(), ready_since = case when c.unmet = 0 then now() end
  from held where c.tenant_id = $1 and c.card_id = held.card_id
  returning c as card, c.*
), noted as (
  insert into fleet.card_event (tenant_id, card_id, kind, status, fence, actor_kind, actor_id, actor_name, run_id, reason)
  select $1, m.card_id, 'reclaimed', 'ready', m.fence, $5, $6, $7, m.run_id, $4 from moved m
)
select card from moved

-- name: held_by_run
-- A run is of one tenant; it is checked above the scan, so that no plan takes another index for it.
select run.card from (
  select c as card from fleet.card c where c.run_id = $2 and (c.status = 'claimed' or c.expired) offset 0
) run
where (run.card).tenant_id = $1
order by (run.card).status = 'claimed' desc, (run.card).claimed_at desc
limit 20

-- name: renew_runs
-- A host vouches for runs of its own seats: their leases go on, up to the limit of each claim.
with held as (
  select c.card_id from fleet.card c
  where c.tenant_id = $1 and c.card_id = any(array(
      select k.card_id from fleet.card k where k.run_id = any($3::uuid[]) and (k.status = 'claimed' or k.expired)))
    and c.status = 'claimed' and c.holder_kind = 'agent' and c.lease_until >= now()
    and exists (select from fleet.agent a where a.tenant_id = $1 and a.agent_id = c.holder_id and a.host_id = $2)
  order by c.card_id
  for no key update of c
)
update fleet.card c set lease_until = greatest(c.lease_until, least(now() + $4::interval, c.renew_until))
from held where c.tenant_id = $1 and c.card_id = held.card_id
returning c.run_id, c.holder_id, c.card_id, c.title, c.fence, c.lease_until - now() as lease_left,
  c.renew_until - now() as limit_left

-- name: run_ended
-- Nobody works for an ended run: its leases are over now, and the reaper takes the cards back.
update fleet.card c set lease_until = least(c.lease_until, now())
where c.tenant_id = $1 and c.run_id = $2 and c.status = 'claimed' and c.holder_id = (
    select a.agent_id from fleet.agent a where a.tenant_id = $1 and a.agent_id = $3 and a.host_id = $4)
  and c.card_id = any(array(
  select k.card_id from fleet.card k where k.run_id = $2 and (k.status = 'claimed' or k.expired)))

-- name: tick
-- Replicas take turns; each reads the tick before its own.
with before as (
  select ticked_at from fleet.card_reaper for no key update
), ticked as (
  update fleet.card_reaper r set ticked_at = now() from before where r.only_one
)
select case when now() - ticked_at > interval '3 seconds' then now() - ticked_at end as gap from before

-- name: extend_leases
-- Nobody could renew while nobody ticked. Never past what a renewal of this moment would give.
update fleet.card c set lease_until = greatest(c.lease_until, least(c.lease_until + $1::interval, now() + c.lease, c.renew_until))
where c.status = 'claimed'

-- name: expire
-- The only way by which a claim that ran out becomes claimable. The fence stays: a late completion is accepted as long as
-- nobody else has taken the card.
with over as (
  select c.tenant_id, c.card_id, c.lease_until >= c.renew_until as at_limit from fleet.card c
  where c.status = 'claimed' and c.lease_until < now() and ($2::uuid is null or c.tenant_id = $2)
  order by c.lease_until
  limit $1
  for no key update of c skip locked
), moved as (
  update fleet.card c set status = case when c.attempts >= c.attempt_limit then 'blocked' else 'ready' end,
    expired = true, lease_until = null, renew_until = null, changed_at = now(),
    ready_since = case when c.unmet = 0 and c.attempts < c.attempt_limit then now() end,
    reason = case when over.at_limit then format('the claim of %s reached the limit of %s', c.holder_name, c.time_limit)
             else format('the lease of %s ran out', c.holder_name) end
      || case when c.attempts >= c.attempt_limit then format('; attempt %s of %s', c.attempts, c.attempt_limit) else '' end
  from over where c.tenant_id = over.tenant_id and c.card_id = over.card_id
  returning c as card, c.*, over.at_limit
), noted as (
  insert into fleet.card_event (tenant_id, card_id, kind, status, fence, actor_kind, actor_id, actor_name, run_id, reason,
    details)
  select m.tenant_id, m.card_id, 'expired', m.status, m.fence, m.holder_kind, m.holder_id, m.holder_name, m.run_id, m.reason,
    jsonb_build_object('attempts', m.attempts::text, 'at_limit', m.at_limit::text)
  from moved m
)
select card, at_limit from moved

-- name: paused
select paused, coalesce(paused_by, '') as by, paused_at as at, paused_reason as reason from fleet.tenant where tenant_id = $1

-- name: pause
update fleet.tenant set paused = $2, paused_by = $3, paused_at = now(), paused_reason = $4
where tenant_id = $1 and paused is distinct from $2
returning tenant_id
