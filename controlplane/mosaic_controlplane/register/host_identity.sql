-- name: enrol
-- A known name keeps its id; every older certificate of it is refused from then on. A revoked host stays out.
insert into fleet.host as h (tenant_id, host_id, name, lost_after, beat_interval)
select $1, $2, $3, t.lost_after, c.beat_interval from fleet.tenant t cross join fleet.cluster c where t.tenant_id = $1
on conflict (tenant_id, name) do update set
  identity_epoch = h.identity_epoch + 1,
  state = case when h.state = 'left' then 'joined' else h.state end,
  draining_since = case when h.state = 'left' then null else h.draining_since end
where h.state <> 'revoked'
returning host_id, identity_epoch

-- name: standing
-- A host that has left is known no more.
select t.tenant_id, h.name, '' as role, h.identity_epoch, h.state = 'revoked' as revoked
from fleet.host h join fleet.tenant t using (tenant_id)
where t.name = $1 and h.host_id = $2 and h.state <> 'left'

-- name: agent_on_host
select a.name, a.class as class_name,
  exists (select from fleet.run r where r.tenant_id = $1 and r.run_id = $4 and r.agent_id = $2 and r.ended_at is null)
    as run_lives
from fleet.agent a
where a.tenant_id = $1 and a.agent_id = $2 and a.host_id = $3 and a.removed_at is null

-- name: replica_standing
select replica_id from fleet.replica where replica_id = $1
