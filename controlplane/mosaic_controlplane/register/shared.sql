-- Agents and hosts by their ids, many at a time: for watchers that catch up, here and in other clusters.

-- name: agents
-- The columns of agent.sql's list_agents; also of seats that were removed. Each is looked up by its key (`offset 0` keeps the
-- planner from making one join of it): a plan made while the tables were small read all of them for a single agent.
select a.tenant_id, a.agent_id, a.host_id, t.name as tenant, h.name as host, h.state as host_state, h.last_beat_at,
  a.name, a.class, a.runtime, a.alias, a.spec, a.desired_running, a.generation, a.observed_generation, a.removed_at,
  a.state, a.state_source, a.state_detail, a.state_since, a.reported_at, a.run_id, a.pid, a.command, a.exit_status, a.problem,
  a.supervision, a.unit, a.enabled, a.output_at, a.running_runtime, a.running_model,
  a.reported_model, a.runtime_version, a.runtime_session,
  coalesce((select string_agg(c.card_id, ', ' order by c.claimed_at) from fleet.card c
            where c.tenant_id = a.tenant_id and c.run_id = a.run_id and (c.status = 'claimed' or c.expired) and not c.expired), '')
    as card,
  a.driver, a.driven_since
from unnest($2::uuid[]) as asked (agent_id)
cross join lateral (select * from fleet.agent s where s.tenant_id = $1 and s.agent_id = asked.agent_id offset 0) a
cross join lateral (select * from fleet.host k where k.tenant_id = $1 and k.host_id = a.host_id offset 0) h
join fleet.tenant t on t.tenant_id = $1

-- name: hosts
-- The columns of host.sql's list_hosts.
select h.*, t.name as tenant, t.lost_claims, now() as at,
  exists (select from fleet.replica r where r.replica_id = h.linked_replica and r.seen_at > now() - interval '15 seconds')
    as linked,
  (select count(*) from fleet.agent a where a.tenant_id = h.tenant_id and a.host_id = h.host_id and a.removed_at is null) as seats
from fleet.host h join fleet.tenant t using (tenant_id)
where h.tenant_id = $1 and h.host_id = any($2::uuid[])

-- name: agent_page
-- The next ids after one. No order but that of the ids, which costs nothing.
select agent_id from fleet.agent where tenant_id = $1 and agent_id > $2 and removed_at is null order by agent_id limit $3

-- name: host_page
select host_id from fleet.host where tenant_id = $1 and host_id > $2 order by host_id limit $3

-- name: places
-- On which host each agent sits.
select agent_id, host_id from fleet.agent where tenant_id = $1 and agent_id = any($2::uuid[])
