-- The register, whole, as it is after every migration. A test proves that the two are equal.
-- Ids are UUIDv7 made by us. tenant_id leads every key of what belongs to a tenant. Time is now().

create schema fleet;

-- One row. register_epoch changes when the register is restored from a backup: cursors of another epoch are refused.
create table fleet.cluster (
  only_one boolean primary key default true check (only_one),
  trust_domain text not null,
  alias text not null,
  register_epoch uuid not null,
  liveness_tick_at timestamptz not null default now(),
  changes_forgotten_up_to xid8 not null default '0',  -- a cursor at or below it cannot be resumed from
  made_at timestamptz not null default now()
);

-- Roots of the cluster's own certificate authority. The key is encrypted under a key file that every replica holds.
create table fleet.authority (
  authority_id uuid primary key,
  certificate bytea not null,
  encrypted_key bytea not null,
  not_after timestamptz not null,
  retired_at timestamptz,
  made_at timestamptz not null default now()
);

create table fleet.tenant (
  tenant_id uuid primary key,
  name text not null unique,
  paused boolean not null default false,
  paused_by text,
  paused_at timestamptz,
  made_at timestamptz not null default now()
);

create table fleet.replica (
  replica_id uuid primary key,
  address text not null,
  version text not null,
  started_at timestamptz not null default now(),
  seen_at timestamptz not null default now(),
  -- Somebody follows or watches here: wakes of messages and changes are sent to this replica too.
  watching boolean not null default false
);

-- One-time join tokens. The secret is kept as a SHA-256 only. A spent token remembers which key spent it, so that the
-- same joiner gets the same certificate again when the reply was lost.
create table fleet.join_token (
  tenant_id uuid not null references fleet.tenant,
  token_id uuid not null,
  kind text not null check (kind in ('host', 'operator')),
  name text not null,
  role text,
  secret_hash bytea not null unique,
  expires_at timestamptz not null,
  made_by text not null,
  made_at timestamptz not null default now(),
  spent_at timestamptz,
  spent_key_hash bytea,
  spent_certificate bytea,
  primary key (tenant_id, token_id),
  check (kind <> 'operator' or role in ('admin', 'operator', 'viewer'))
);

create table fleet.operator (
  tenant_id uuid not null references fleet.tenant,
  operator_id uuid not null,
  name text not null,
  role text not null check (role in ('admin', 'operator', 'viewer')),
  identity_epoch bigint not null default 1,
  made_at timestamptz not null default now(),
  revoked_at timestamptz,
  primary key (tenant_id, operator_id),
  unique (tenant_id, name)
);

create table fleet.host (
  tenant_id uuid not null references fleet.tenant,
  host_id uuid not null,
  name text not null,
  identity_epoch bigint not null default 1,
  state text not null default 'joined' check (state in ('joined', 'live', 'stale', 'lost', 'left', 'revoked')),
  joined_at timestamptz not null default now(),
  machine text not null default '',
  version text not null default '',
  -- The link: the newest epoch wins; everything older is refused.
  link_epoch bigint not null default 0,
  linked_replica uuid,
  journal_id uuid,
  -- The newest epoch that the host's journal is known to hold: a hello with an older one comes from a restored journal.
  confirmed_epoch bigint not null default 0,
  last_beat_at timestamptz,
  beat_interval interval not null default '5 seconds',
  lost_after interval not null default '60 seconds',
  stale_at timestamptz,                               -- three beats after the last one
  lease_until timestamptz,                            -- lost_after after the last beat
  -- Desired state: the generation wanted, and the newest one that the host reports as reconciled.
  generation bigint not null default 0,
  observed_generation bigint not null default 0,
  unmanaged bytea not null default '',                -- mosaic.v1.Unmanaged: sessions on its tmux servers that are not ours
  primary key (tenant_id, host_id),
  unique (tenant_id, name)
) with (fillfactor = 70);

-- The desired roster, every version of it.
create table fleet.roster (
  tenant_id uuid not null references fleet.tenant,
  version bigint not null,
  document jsonb not null,
  applied_by text not null,
  applied_at timestamptz not null default now(),
  primary key (tenant_id, version)
);

-- A seat: what is wanted of it, and what its host last said of it.
create table fleet.agent (
  tenant_id uuid not null references fleet.tenant,
  agent_id uuid not null,
  host_id uuid not null,
  name text not null,
  class text not null,
  runtime text not null,
  alias text not null default '',
  spec bytea not null,                                -- mosaic.v1.SeatSpec
  spec_digest bytea not null,
  desired_running boolean not null default true,
  generation bigint not null default 1,               -- rises with every change wanted of this seat
  restart bigint not null default 0,                  -- rises with every restart asked for
  next_seat_seq bigint not null default 1,
  removed_at timestamptz,
  made_at timestamptz not null default now(),
  state text not null default 'unknown' check (state in
    ('unknown', 'starting', 'working', 'available', 'waiting', 'stuck', 'exited')),
  state_source text not null default '',
  state_detail text not null default '',
  state_since timestamptz,
  reported_at timestamptz,
  observed_generation bigint not null default 0,
  run_id uuid,
  pid bigint,
  command text not null default '',
  exit_status integer,
  problem text not null default '',
  supervision text not null default '',               -- systemd | built-in; empty: its host has not said
  unit text not null default '',                      -- the systemd user unit that keeps the seat
  enabled boolean not null default false,             -- it comes back when its machine boots, with nobody logged in
  output_at timestamptz,                              -- when its terminal last changed
  running_runtime text not null default '',           -- what its process was seen to be
  running_model text not null default '',
  reset bigint not null default 0,                    -- rises with every reset asked for
  reset_way text not null default '',                 -- how the newest one is done
  primary key (tenant_id, agent_id),
  foreign key (tenant_id, host_id) references fleet.host
) with (fillfactor = 70);

create unique index agent_name_once_a_host on fleet.agent (tenant_id, host_id, name) where removed_at is null;

-- One launch or reset of a seat.
create table fleet.run (
  tenant_id uuid not null references fleet.tenant,
  run_id uuid not null,
  agent_id uuid not null,
  runtime_session text,
  model text not null default '',
  account text not null default '',
  started_at timestamptz not null,
  ended_at timestamptz,
  end_reason text,
  exit_status integer,
  primary key (tenant_id, run_id),
  foreign key (tenant_id, agent_id) references fleet.agent
);

create index run_by_agent on fleet.run (tenant_id, agent_id, started_at);

-- Updates of the runtimes' own programs: one at a time for a runtime on a host.
create table fleet.runtime_update (
  tenant_id uuid not null references fleet.tenant,
  update_id uuid not null,
  host_id uuid not null,
  runtime text not null,
  relaunch boolean not null,
  drain interval not null,
  asked_by text not null,
  asked_at timestamptz not null default now(),
  start_by timestamptz not null,
  changed_at timestamptz not null default now(),
  state text not null default 'wanted' check (state in
    ('wanted', 'draining', 'updating', 'relaunching', 'done', 'failed')),
  version_before text not null default '',
  version_after text not null default '',
  problem text not null default '',
  output text not null default '',
  seats bytea not null default '',
  primary key (tenant_id, update_id),
  foreign key (tenant_id, host_id) references fleet.host
);

create unique index runtime_update_one_at_a_time on fleet.runtime_update (tenant_id, host_id, runtime)
  where state not in ('done', 'failed');

-- Whether a message at step `old` may move to step `new`. Steps only rise; ends are final, but for `unknown`, which later
-- evidence may settle.
create function fleet.step_may_follow(old text, new text) returns boolean language sql immutable parallel safe as $$
  select case
    when old in ('failed', 'expired', 'cancelled', 'turn_ended') then false
    when old = 'unknown' then new in ('submitted', 'accepted', 'turn_started', 'turn_ended', 'failed', 'expired')
    when new in ('failed', 'expired', 'cancelled', 'unknown') then old in ('queued', 'dispatched', 'typed')
    else array_position(array['queued', 'dispatched', 'typed', 'submitted', 'accepted', 'turn_started', 'turn_ended'], new)
       > array_position(array['queued', 'dispatched', 'typed', 'submitted', 'accepted', 'turn_started', 'turn_ended'], old)
  end
$$;

create table fleet.message (
  tenant_id uuid not null references fleet.tenant,
  message_id uuid not null,
  sender_kind text not null check (sender_kind in ('agent', 'operator', 'connector')),
  sender_id uuid not null,
  sender_name text not null,
  recipient_kind text not null check (recipient_kind in ('agent', 'operator', 'connector')),
  recipient_id uuid not null,
  host_id uuid,                                       -- of a recipient that is an agent
  seat_seq bigint,                                    -- order of typing at that seat
  body text not null,
  payload_digest text not null,                       -- SHA-256, hex
  reply_to uuid,
  thread_id uuid,
  attachments jsonb not null default '[]',
  created_at timestamptz not null default now(),
  deadline_at timestamptz not null,
  step text not null default 'queued' check (step in
    ('queued', 'dispatched', 'typed', 'submitted', 'accepted', 'turn_started', 'turn_ended',
     'unknown', 'failed', 'expired', 'cancelled')),
  reason text not null default '',
  run_id uuid,
  -- Pushed to a host under this link epoch and journal: from here the control plane no longer ends it by itself.
  offered_link_epoch bigint,
  offered_journal_id uuid,
  primary key (tenant_id, message_id)
) with (fillfactor = 70);

create index message_queued_by_host on fleet.message (tenant_id, host_id, recipient_id, seat_seq)
  where step = 'queued';
create index message_open_by_host on fleet.message (tenant_id, host_id)
  where step in ('queued', 'dispatched', 'typed');
create index message_due on fleet.message (deadline_at) where step = 'queued';
create index message_newest on fleet.message (tenant_id, created_at desc);

-- The receipt: each step once, with its evidence.
create table fleet.message_step (
  tenant_id uuid not null,
  message_id uuid not null,
  step text not null,
  at timestamptz not null,
  source text not null default '',
  detail text not null default '',
  reason text not null default '',
  primary key (tenant_id, message_id, step),
  foreign key (tenant_id, message_id) references fleet.message
);

-- Idempotency: the result of a write, stored in the write's own transaction. Kept 24 h.
create table fleet.request (
  tenant_id uuid not null references fleet.tenant,
  caller text not null,                               -- "<kind>:<id>"
  request_id uuid not null,
  method text not null,
  payload_digest bytea not null,
  reply bytea not null,
  made_at timestamptz not null default now(),
  primary key (tenant_id, caller, request_id)
);

create index request_by_age on fleet.request (made_at);

-- One row for every write and every refusal.
create table fleet.audit (
  audit_id uuid primary key,
  tenant_id uuid references fleet.tenant,
  at timestamptz not null default now(),
  caller_kind text not null,
  caller_id text not null,
  caller_name text not null,
  peer_address text not null default '',
  method text not null,
  target text not null default '',
  request_id text not null default '',
  outcome text not null,                              -- 'done' or an error code
  detail jsonb not null default '{}'
);

create index audit_by_time on fleet.audit (tenant_id, at);

-- What changed, for watchers. A sequence is not commit order: readers serve only rows whose xid is below
-- pg_snapshot_xmin(pg_current_snapshot()), ordered by (xid, seq).
create table fleet.change (
  seq bigint generated always as identity,
  xid xid8 not null default pg_current_xact_id(),
  tenant_id uuid not null,
  kind text not null check (kind in ('agent', 'host', 'message', 'roster', 'tenant')),
  id uuid not null,
  at timestamptz not null default now(),
  primary key (tenant_id, xid, seq)
);

create index change_by_time on fleet.change (at);

-- Changes are written by triggers, so that no path can forget them. What changes with every beat is no change.
create function fleet.record_agent_change() returns trigger language plpgsql as $$
begin
  insert into fleet.change (tenant_id, kind, id) values (new.tenant_id, 'agent', new.agent_id);
  return null;
end $$;

create trigger agent_added after insert on fleet.agent
  for each row execute function fleet.record_agent_change();
create trigger agent_changed after update on fleet.agent
  for each row when (
    (old.host_id, old.class, old.runtime, old.alias, old.spec_digest, old.desired_running, old.generation, old.removed_at,
     old.state, old.state_source, old.state_detail, old.observed_generation, old.run_id, old.pid, old.command, old.problem)
    is distinct from
    (new.host_id, new.class, new.runtime, new.alias, new.spec_digest, new.desired_running, new.generation, new.removed_at,
     new.state, new.state_source, new.state_detail, new.observed_generation, new.run_id, new.pid, new.command, new.problem))
  execute function fleet.record_agent_change();
create trigger agent_runs_another after update on fleet.agent
  for each row when ((old.running_runtime, old.running_model) is distinct from (new.running_runtime, new.running_model))
  execute function fleet.record_agent_change();

create trigger agent_supervision_changed after update on fleet.agent
  for each row when ((old.supervision, old.unit, old.enabled) is distinct from (new.supervision, new.unit, new.enabled))
  execute function fleet.record_agent_change();

create function fleet.record_host_change() returns trigger language plpgsql as $$
begin
  insert into fleet.change (tenant_id, kind, id) values (new.tenant_id, 'host', new.host_id);
  return null;
end $$;

create trigger host_added after insert on fleet.host
  for each row execute function fleet.record_host_change();
create trigger host_changed after update on fleet.host
  for each row when (
    (old.state, old.link_epoch, old.identity_epoch, old.generation, old.observed_generation, old.version, old.machine)
    is distinct from
    (new.state, new.link_epoch, new.identity_epoch, new.generation, new.observed_generation, new.version, new.machine))
  execute function fleet.record_host_change();
create trigger host_unmanaged_changed after update on fleet.host
  for each row when (old.unmanaged is distinct from new.unmanaged)
  execute function fleet.record_host_change();

create function fleet.record_message_change() returns trigger language plpgsql as $$
begin
  insert into fleet.change (tenant_id, kind, id) values (new.tenant_id, 'message', new.message_id);
  return null;
end $$;

create trigger message_added after insert on fleet.message
  for each row execute function fleet.record_message_change();
create trigger message_changed after update on fleet.message
  for each row when (old.step is distinct from new.step) execute function fleet.record_message_change();
