-- Who holds the lease on an agent's terminal, as its host says.
alter table fleet.agent
  add column driver text not null default '',         -- display name; empty: nobody
  add column driven_since timestamptz;

create trigger agent_driven after update of driver on fleet.agent
  for each row when (old.driver is distinct from new.driver)
  execute function fleet.record_agent_change();
