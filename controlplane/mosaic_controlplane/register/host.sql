-- name: list_hosts
select h.*, t.name as tenant, now() as at,
  (select count(*) from fleet.agent a where a.tenant_id = h.tenant_id and a.host_id = h.host_id and a.removed_at is null) as seats
from fleet.host h join fleet.tenant t using (tenant_id)
where h.tenant_id = $1 and ($2 = '' or h.name = $2) and ($3::uuid is null or h.host_id = $3)
order by h.name

-- name: ids_by_name
select name, host_id from fleet.host where tenant_id = $1 and state not in ('left', 'revoked')

-- name: open_link
-- A new link takes over from every older one. Nothing is returned when this identity may no longer link. The row as it was
-- before tells whether the journal is the one that the register knows.
with before as (
  select * from fleet.host
  where tenant_id = $1 and host_id = $2 and identity_epoch = $3 and state not in ('left', 'revoked')
  for update
), opened as (
  update fleet.host h set link_epoch = h.link_epoch + 1, linked_replica = $4, journal_id = $5, version = $6, machine = $7,
    state = 'live', last_beat_at = now(), stale_at = now() + 3 * h.beat_interval, lease_until = now() + h.lost_after,
    observed_generation = greatest(h.observed_generation, least($8, h.generation)),
    confirmed_epoch = case when b.journal_id is distinct from $5 then 0 else h.confirmed_epoch end
  from before b
  where h.tenant_id = b.tenant_id and h.host_id = b.host_id
  returning h.link_epoch, h.generation, h.beat_interval
)
select opened.*, before.journal_id as journal_before, before.confirmed_epoch as confirmed_before from opened, before

-- name: confirm_link
update fleet.host set confirmed_epoch = link_epoch
where tenant_id = $1 and host_id = $2 and link_epoch = $3
returning host_id

-- name: close_link
-- The stream has ended: the host is not yet stale, only unlinked, unless a newer link has taken over.
update fleet.host set linked_replica = null where tenant_id = $1 and host_id = $2 and link_epoch = $3

-- name: hold_link
-- Taken in every transaction that writes on behalf of a link: a superseded link finds nothing.
select host_id from fleet.host where tenant_id = $1 and host_id = $2 and link_epoch = $3 for share

-- name: flush_beats
-- Beats are as old as they are: now() - age. A beat of a superseded link counts for nothing. Returns the tenants in which a
-- host came back to life.
with beat as (
  select * from unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::interval[]) as b (tenant_id, host_id, link_epoch, age)
), due as (
  select h.tenant_id, h.host_id, h.state, now() - b.age as beat_at
  from beat b join fleet.host h using (tenant_id, host_id, link_epoch)
  where h.state in ('joined', 'live', 'stale', 'lost') and (h.last_beat_at is null or h.last_beat_at < now() - b.age)
  order by h.tenant_id, h.host_id
  for update of h
), flushed as (
  update fleet.host h set last_beat_at = due.beat_at, stale_at = due.beat_at + 3 * h.beat_interval,
    lease_until = due.beat_at + h.lost_after, state = 'live'
  from due where h.tenant_id = due.tenant_id and h.host_id = due.host_id
)
select distinct tenant_id from due where state <> 'live'

-- name: tick
-- When no replica has ticked for 3 s the control plane itself was away: no host is to blame for that, so every lease is
-- extended by the gap before any is judged.
with tick as (
  update fleet.cluster set liveness_tick_at = now()
  returning (select c.liveness_tick_at from fleet.cluster c) as before
)
select case when now() - before > interval '3 seconds' then now() - before end as gap from tick

-- name: extend_leases
update fleet.host set lease_until = lease_until + $1, stale_at = stale_at + $1 where state in ('live', 'stale')

-- name: judge
update fleet.host set state = case when lease_until < now() then 'lost' else 'stale' end
where (state = 'live' and stale_at < now()) or (state = 'stale' and lease_until < now())
returning tenant_id, host_id, name, state

-- name: set_generation
-- The desired state of these hosts has changed.
update fleet.host set generation = generation + 1 where tenant_id = $1 and host_id = any($2::uuid[])
returning host_id, name, generation

-- name: set_observed
update fleet.host set observed_generation = $4
where tenant_id = $1 and host_id = $2 and link_epoch = $3 and observed_generation < $4

-- name: generation_of
select generation from fleet.host where tenant_id = $1 and host_id = $2
