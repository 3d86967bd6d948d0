-- name: start
insert into fleet.run (tenant_id, run_id, agent_id, model, account, started_at)
select $1, $2, a.agent_id, $5, $6, now() - $7::interval
from fleet.agent a where a.tenant_id = $1 and a.agent_id = $3 and a.host_id = $4
on conflict (tenant_id, run_id) do nothing

-- name: finish
update fleet.run r set ended_at = now() - $5::interval, end_reason = $6, exit_status = $7
from fleet.agent a
where r.tenant_id = $1 and r.run_id = $2 and r.agent_id = $3 and a.tenant_id = r.tenant_id and a.agent_id = r.agent_id
  and a.host_id = $4 and r.ended_at is null
