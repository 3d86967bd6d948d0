-- name: hold
-- Locks a card for a write, and says why the write is refused; '' when it is not. Whoever decides over cards may take one out
-- that came back by itself, as any other that is ready; with a fence, or of the run that lost it, it is a late write.
select c as card, case
    when $3::text = 'block' and $7::boolean and $4::bigint = 0 and c.status = 'ready' and c.expired
      and c.run_id is distinct from $6::uuid then ''
    else fleet.card_refusal(c, $3, $4, $5, $6, $7) end as refusal
from fleet.card c where c.tenant_id = $1 and c.card_id = $2
for no key update of c

-- name: written_by
select kind, card_id from fleet.card_event
where request_id = $1 and actor_id = $2 and request_place = $3

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
