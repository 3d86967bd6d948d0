-- name: list_hosts
-- linked: whether a replica holds its link, one that was heard of within 15 s.
select h.*, t.name as tenant, t.lost_claims, now() as at,
  exists (select from fleet.replica r where r.replica_id = h.linked_replica and r.seen_at > now() - interval '15 seconds')
    as linked,
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
    state = 'live', last_beat_at = now(), stale_at = now() + 3 * h.beat_interval,
    lease_until = now() + greatest(h.lost_after, 4 * h.beat_interval), link_problem = '',
    observed_generation = least($8, h.generation),
    confirmed_epoch = case when b.journal_id is distinct from $5 then 0 else h.confirmed_epoch end,
    journal_sequence = case when b.journal_id is distinct from $5 then 0 else h.journal_sequence end
  from before b
  where h.tenant_id = b.tenant_id and h.host_id = b.host_id
  returning h.link_epoch, h.generation, h.beat_interval
)
select opened.*, before.state as state_before, before.journal_id as journal_before, before.confirmed_epoch as confirmed_before,
  before.journal_sequence as sequence_before
from opened, before

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

-- name: hold_link_with_events
-- One lock from the start, not a stronger one later: two that hold a row for share and both want to write it wait for ever.
update fleet.host set journal_sequence = greatest(journal_sequence, $4)
where tenant_id = $1 and host_id = $2 and link_epoch = $3
returning host_id

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
  for no key update of h
), flushed as (
  update fleet.host h set last_beat_at = due.beat_at, stale_at = due.beat_at + 3 * h.beat_interval,
    lease_until = due.beat_at + greatest(h.lost_after, 4 * h.beat_interval), state = 'live'
  from due where h.tenant_id = due.tenant_id and h.host_id = due.host_id
)
select distinct tenant_id from due where state <> 'live'

-- name: tick
-- When no replica has ticked for 3 s the control plane itself was away: no host is to blame for that, so every lease is
-- extended by the gap before any is judged.
-- Replicas take turns here, and each reads the tick before its own.
with before as (
  select only_one, liveness_tick_at from fleet.cluster for no key update
), ticked as (
  update fleet.cluster c set liveness_tick_at = now() from before where c.only_one = before.only_one
)
select case when now() - liveness_tick_at > interval '3 seconds' then now() - liveness_tick_at end as gap from before

-- name: extend_leases
-- Never past what a beat of this moment would give: a host that has been heard of since keeps no more than its due.
with known as (
  select tenant_id, host_id from fleet.host where state in ('live', 'stale') order by tenant_id, host_id for no key update
)
update fleet.host h set
  stale_at = greatest(h.stale_at, least(h.stale_at + $1, now() + 3 * h.beat_interval)),
  lease_until = greatest(h.lease_until, least(h.lease_until + $1, now() + greatest(h.lost_after, 4 * h.beat_interval)))
from known k where h.tenant_id = k.tenant_id and h.host_id = k.host_id

-- name: judge
with silent as (
  select tenant_id, host_id from fleet.host
  where (state = 'live' and stale_at < now()) or (state = 'stale' and lease_until < now())
  order by tenant_id, host_id
  for no key update
)
update fleet.host h set state = case when h.lease_until < now() then 'lost' else 'stale' end
from silent s where h.tenant_id = s.tenant_id and h.host_id = s.host_id
returning h.tenant_id, h.host_id, h.name, h.state

-- name: set_generation
-- The desired state of these hosts changes. Runs before the change of their seats: whoever writes for a host locks the host,
-- then its seats, then its messages; several hosts in the order of their ids.
with touched as (
  select host_id from fleet.host where tenant_id = $1 and host_id = any($2::uuid[]) order by host_id for no key update
)
update fleet.host h set generation = h.generation + 1
from touched where h.tenant_id = $1 and h.host_id = touched.host_id
returning h.host_id, h.name, h.generation

-- name: set_observed
update fleet.host set observed_generation = least($4, generation)
where tenant_id = $1 and host_id = $2 and link_epoch = $3 and observed_generation < least($4, generation)

-- name: set_unmanaged
update fleet.host set unmanaged = $4 where tenant_id = $1 and host_id = $2 and link_epoch = $3

-- name: wanted
-- What is wanted of a linked host: the generation of its seats, and how often it beats. One that has left is wanted no more.
select generation, beat_interval from fleet.host
where tenant_id = $1 and host_id = $2 and link_epoch = $3 and state not in ('left', 'revoked')

-- name: with_work
-- Of these links, those for which there is something to do: another generation or pace than was told, a message that was not
-- offered under the link, one to take back, or a newer link. One statement for all links of a replica.
select l.host_id
from unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::bigint[], $5::interval[])
  as l (tenant_id, host_id, link_epoch, generation, beat_interval)
left join fleet.host h using (tenant_id, host_id)
where h.link_epoch is distinct from l.link_epoch or h.generation <> l.generation or h.beat_interval <> l.beat_interval
  or h.state in ('left', 'revoked')
  or h.confirmed_epoch = l.link_epoch and exists (
    select from fleet.message m where m.tenant_id = l.tenant_id and m.host_id = l.host_id and m.step = 'queued'
      and (m.offered_link_epoch is null or m.offered_link_epoch < l.link_epoch))
  or exists (
    select from fleet.message m where m.tenant_id = l.tenant_id and m.host_id = l.host_id
      and m.cancel_asked_at is not null and m.step in ('queued', 'dispatched'))

-- name: refuse_link
-- Why the host was not let in, so that a person sees it; what it was before, it still is.
update fleet.host set link_problem = $3
where tenant_id = $1 and host_id = $2 and link_problem is distinct from $3

-- name: beating
-- How many hosts beat or ought to, and how often they are asked to now. Of the whole cluster.
select c.beat_interval, (select count(*) from fleet.host h where h.state in ('live', 'stale')) as hosts from fleet.cluster c

-- name: set_pace
-- Another interval for all hosts that keep the cluster's. Those that are to beat more seldom are given the time at once.
with paced as (
  update fleet.cluster set beat_interval = $2 where beat_interval = $1 returning only_one
), kept as (
  select h.tenant_id, h.host_id from fleet.host h cross join paced
  where h.beat_interval = $1 order by h.tenant_id, h.host_id for no key update of h
)
update fleet.host h set beat_interval = $2,
  stale_at = case when h.state = 'live' then greatest(h.stale_at, now() + 3 * greatest($1, $2)) else h.stale_at end,
  lease_until = case when h.state in ('live', 'stale')
    then greatest(h.lease_until, now() + greatest(h.lost_after, 4 * greatest($1, $2))) else h.lease_until end
from kept k where h.tenant_id = k.tenant_id and h.host_id = k.host_id
