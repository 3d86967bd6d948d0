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
