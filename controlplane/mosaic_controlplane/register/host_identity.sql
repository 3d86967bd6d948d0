-- name: enrol
-- A known name keeps its id; every older certificate of it is refused from then on. A revoked one comes back by a token that
-- was made after its revocation, which voided those of before.
insert into fleet.host as h (tenant_id, host_id, name) values ($1, $2, $3)
on conflict (tenant_id, name) do update set
  identity_epoch = h.identity_epoch + 1,
  state = case when h.state in ('left', 'revoked') then 'joined' else h.state end,
  revoked_at = null, revoked_by = '', revoked_reason = ''
returning host_id, identity_epoch

-- name: standing
select t.tenant_id, h.name, '' as role, h.identity_epoch, h.state in ('left', 'revoked') as revoked
from fleet.host h join fleet.tenant t using (tenant_id)
where t.name = $1 and h.host_id = $2

-- name: agent_on_host
select a.name, a.class as class_name,
  exists (select from fleet.run r where r.tenant_id = $1 and r.run_id = $4 and r.agent_id = $2 and r.ended_at is null)
    as run_lives
from fleet.agent a
where a.tenant_id = $1 and a.agent_id = $2 and a.host_id = $3 and a.removed_at is null

-- name: replica_standing
select replica_id from fleet.replica where replica_id = $1
