-- What `fleet ps` joins: when a seat's terminal last changed, what its process is, and the sessions that nobody manages.

alter table fleet.agent
  add output_at timestamptz,
  add running_runtime text not null default '',
  add running_model text not null default '';

alter table fleet.host add unmanaged bytea not null default '';

create trigger agent_runs_another after update on fleet.agent
  for each row when ((old.running_runtime, old.running_model) is distinct from (new.running_runtime, new.running_model))
  execute function fleet.record_agent_change();

create trigger host_unmanaged_changed after update on fleet.host
  for each row when (old.unmanaged is distinct from new.unmanaged)
  execute function fleet.record_host_change();
