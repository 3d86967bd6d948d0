-- Who starts a seat, and whether it comes back at boot.
alter table fleet.agent
  add column supervision text not null default '',    -- systemd | built-in; empty: its host has not said
  add column unit text not null default '',           -- the systemd user unit that keeps the seat
  add column enabled boolean not null default false;  -- it comes back when its machine boots, with nobody logged in

create trigger agent_supervision_changed after update on fleet.agent
  for each row when ((old.supervision, old.unit, old.enabled) is distinct from (new.supervision, new.unit, new.enabled))
  execute function fleet.record_agent_change();
