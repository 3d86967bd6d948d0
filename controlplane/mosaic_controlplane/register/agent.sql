-- name: list_agents
-- ($2, $3): the host and name after which to begin; $4: how many at most. A page must cost what is in it, whatever the planner
-- knows of the tables: a page needs no more hosts with seats than it has rows (and the one that it begins on), and each is asked
-- for its own. `offset 0` and the order within keep the two from becoming one join, which is planned as a scan of all seats.
select a.tenant_id, a.agent_id, a.host_id, t.name as tenant, h.name as host, h.state as host_state, h.last_beat_at,
  a.name, a.class, a.runtime, a.alias, a.spec, a.desired_running, a.generation, a.observed_generation, a.removed_at,
  a.state, a.state_source, a.state_detail, a.state_since, a.reported_at, a.run_id, a.pid, a.command, a.exit_status, a.problem,
  a.supervision, a.unit, a.enabled, a.output_at, a.running_runtime, a.running_model,
  a.reported_model, a.runtime_version, a.runtime_session,
  -- What its run holds: a card that an earlier run held is no longer its own. Said as the index card_by_run says it: on a table
  -- that was empty when the plan was made, another index looks as good.
  coalesce((select string_agg(c.card_id, ', ' order by c.claimed_at) from fleet.card c
            where c.tenant_id = a.tenant_id and c.run_id = a.run_id and (c.status = 'claimed' or c.expired) and not c.expired), '')
    as card,
  a.driver, a.driven_since
from (
  select k.host_id, k.name, k.state, k.last_beat_at from fleet.host k
  where k.tenant_id = $1 and k.name >= $2 and exists (
    select from fleet.agent s where s.tenant_id = $1 and s.host_id = k.host_id and s.removed_at is null offset 0)
  order by k.name
  limit $4::bigint + 1
) h
cross join lateral (
  select * from fleet.agent s
  where s.tenant_id = $1 and s.host_id = h.host_id and s.removed_at is null
    and s.name > case when h.name = $2 then $3 else '' end
  order by s.name
) a
join fleet.tenant t on t.tenant_id = $1
order by h.name, a.name
limit $4

-- name: addresses
select a.agent_id, a.name, a.host_id, h.name as host, a.class
from fleet.agent a join fleet.host h using (tenant_id, host_id)
where a.tenant_id = $1 and a.removed_at is null
order by h.name, a.name

-- name: addressed
select a.agent_id, a.name, a.host_id, h.name as host, a.class
from fleet.host h join fleet.agent a using (tenant_id, host_id)
where h.tenant_id = $1 and h.name = $2 and a.name = $3 and a.removed_at is null

-- name: named
select a.agent_id, a.name, a.host_id, h.name as host, a.class
from fleet.agent a join fleet.host h using (tenant_id, host_id)
where a.tenant_id = $1 and a.name = $2 and a.removed_at is null
order by h.name, a.name

-- name: called
-- Seats of one name, with all that a grant may choose them by.
select a.agent_id, a.name, a.host_id, h.name as host, a.class, a.runtime, a.spec
from fleet.agent a join fleet.host h using (tenant_id, host_id)
where a.tenant_id = $1 and a.name = $2 and a.removed_at is null
order by h.name

-- name: seats_of_host
select agent_id, generation, desired_running, restart, spec, reset, reset_way
from fleet.agent where tenant_id = $1 and host_id = $2 and removed_at is null
order by name

-- name: seats_for_apply
select agent_id, host_id, name, spec_digest from fleet.agent
where tenant_id = $1 and removed_at is null
order by agent_id

-- name: seats_applied
select agent_id, host_id, name, spec_digest from fleet.agent where tenant_id = $1 and removed_at is null

-- name: may_still_run
-- Seats of hosts that cannot be told anything now, unless the host has said that they stand still.
select a.name, h.name as host, h.state from fleet.agent a join fleet.host h using (tenant_id, host_id)
where a.tenant_id = $1 and a.agent_id = any($2::uuid[]) and h.state in ('stale', 'lost', 'revoked')
  and (a.desired_running or a.pid is not null or a.state = 'unknown' or a.observed_generation < a.generation)
order by a.name

-- name: add_seat
insert into fleet.agent
  (tenant_id, agent_id, host_id, name, class, runtime, alias, spec, spec_digest, desired_running)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)

-- name: change_seat
update fleet.agent set class = $3, runtime = $4, alias = $5, spec = $6, spec_digest = $7, generation = generation + 1
where tenant_id = $1 and agent_id = $2

-- name: remove_seats
update fleet.agent set removed_at = now(), desired_running = false, generation = generation + 1
where tenant_id = $1 and agent_id = any($2::uuid[])

-- name: start_seats
update fleet.agent set desired_running = true, generation = generation + 1
where tenant_id = $1 and agent_id = any($2::uuid[]) and removed_at is null

-- name: stop_seats
update fleet.agent set desired_running = false, generation = generation + 1
where tenant_id = $1 and agent_id = any($2::uuid[]) and removed_at is null

-- name: restart_seats
-- Never a number that was given before, also when the register has been restored from a backup since.
update fleet.agent set desired_running = true, restart = greatest(restart + 1, extract(epoch from now())::bigint), generation = generation + 1
where tenant_id = $1 and agent_id = any($2::uuid[]) and removed_at is null

-- name: reset_seats
update fleet.agent set reset = greatest(reset + 1, extract(epoch from now())::bigint), reset_way = $3, generation = generation + 1
where tenant_id = $1 and agent_id = any($2::uuid[]) and removed_at is null

-- name: report_seats
-- What a host says of its own seats. Ages are counted back from the database's clock.
update fleet.agent a set
  state = r.state, state_source = r.source, state_detail = r.detail, state_since = now() - r.age, reported_at = now(),
  run_id = r.run_id, pid = nullif(r.pid, 0), command = r.command, problem = r.problem, exit_status = r.exit_status,
  strongest_step = r.strongest_step,
  supervision = r.supervision, unit = r.unit, enabled = r.enabled,
  -- As the host says now: one that was reinstalled has brought nothing about yet.
  observed_generation = least(r.generation, a.generation),
  output_at = coalesce(now() - r.output_age, a.output_at), running_runtime = r.running_runtime, running_model = r.running_model,
  -- A host-agent that was started anew has not heard yet what the program said before: it stands while the run does.
  reported_model = case when r.reported_model = '' and r.run_id = a.run_id then a.reported_model else r.reported_model end,
  runtime_version = case when r.runtime_version = '' and r.run_id = a.run_id then a.runtime_version else r.runtime_version end,
  runtime_session = case when r.runtime_session = '' and r.run_id = a.run_id then a.runtime_session else r.runtime_session end
from unnest($3::uuid[], $4::text[], $5::text[], $6::text[], $7::interval[], $8::uuid[], $9::bigint[], $10::text[],
            $11::text[], $12::int[], $13::bigint[], $14::text[], $15::text[], $16::boolean[], $17::interval[],
            $18::text[], $19::text[], $20::text[], $21::text[], $22::text[], $23::text[])
  as r (agent_id, state, source, detail, age, run_id, pid, command, problem, exit_status, generation,
        supervision, unit, enabled, output_age, running_runtime, running_model,
        reported_model, runtime_version, runtime_session, strongest_step)
where a.tenant_id = $1 and a.host_id = $2 and a.agent_id = r.agent_id and a.removed_at is null

-- name: report_drivers
-- Who drives a seat by hand, as its host says. Only what changed is written.
update fleet.agent a set driver = r.driver, driven_since = case when r.driver <> '' then now() - r.driven end
from unnest($3::uuid[], $4::text[], $5::interval[]) as r (agent_id, driver, driven)
where a.tenant_id = $1 and a.host_id = $2 and a.agent_id = r.agent_id and a.driver <> r.driver
