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

-- name: name_sessions
-- What the programs of these runs call their own sessions: the newest, for one that began another within its run.
update fleet.run r set runtime_session = s.session
from unnest($3::uuid[], $4::text[]) as s (run_id, session), fleet.agent a
where r.tenant_id = $1 and r.run_id = s.run_id and r.runtime_session is distinct from s.session
  and a.tenant_id = r.tenant_id and a.agent_id = r.agent_id and a.host_id = $2
