-- name: seats
-- Every seat that the update of a runtime would touch: one with a command of its own does not run the runtime's program.
select h.host_id, h.name as host, a.runtime, a.name, a.spec
from fleet.agent a join fleet.host h using (tenant_id, host_id)
where a.tenant_id = $1 and a.removed_at is null and ($2 = '' or h.name = $2) and ($3 = '' or a.runtime = $3)
order by h.name, a.runtime, a.name

-- name: ask
-- Nothing is returned while another update of this runtime is under way on this host.
insert into fleet.runtime_update (tenant_id, update_id, host_id, runtime, relaunch, drain, asked_by, start_by)
values ($1, $2, $3, $4, $5, $6, $7, now() + $8::interval)
on conflict (tenant_id, host_id, runtime) where state not in ('done', 'failed') do nothing
returning update_id

-- name: find
select u.update_id, h.name as host, u.runtime, u.relaunch, u.state, u.version_before, u.version_after, u.problem, u.output,
  u.seats, u.asked_by, u.asked_at, u.changed_at
from fleet.runtime_update u join fleet.host h using (tenant_id, host_id)
where u.tenant_id = $1 and u.update_id = $2

-- name: under_way
select update_id, asked_by from fleet.runtime_update
where tenant_id = $1 and host_id = $2 and runtime = $3 and state not in ('done', 'failed')

-- name: wanted_of_host
select update_id, runtime, relaunch, (extract(epoch from drain) * 1000)::bigint as drain_ms from fleet.runtime_update
where tenant_id = $1 and host_id = $2 and state = 'wanted' and start_by > now()
order by asked_at

-- name: progress
-- How far an update is, as its host says. It only rises; what comes again is taken again.
update fleet.runtime_update u set state = $4, version_before = $5, version_after = $6, problem = $7, output = $8, seats = $9,
  changed_at = now()
where u.tenant_id = $1 and u.host_id = $2 and u.update_id = $3
  and array_position(array['wanted', 'draining', 'updating', 'relaunching', 'failed', 'done'], $4)
   >= array_position(array['wanted', 'draining', 'updating', 'relaunching', 'failed', 'done'], u.state)
  and u.state not in ('done')
returning u.update_id

-- name: expire
-- A host that did not begin in time is given nothing of it from here on. Should it have been given it just before, how it ends
-- counts.
update fleet.runtime_update set state = 'failed', problem = 'its host did not begin it in time; nothing was done',
  changed_at = now()
where tenant_id = $1 and state = 'wanted' and start_by < now()
returning update_id
