-- What a seat's program says of itself: its model, its version, its own session.

alter table fleet.agent
  add reported_model text not null default '',
  add runtime_version text not null default '',
  add runtime_session text not null default '';

create trigger agent_says_another after update on fleet.agent
  for each row when ((old.reported_model, old.runtime_version, old.runtime_session)
    is distinct from (new.reported_model, new.runtime_version, new.runtime_session))
  execute function fleet.record_agent_change();
