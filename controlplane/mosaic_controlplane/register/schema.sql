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
  made_at timestamptz not null default now(),
  beat_interval interval not null default '5 seconds'  -- of all hosts; slower as they grow in number (mesh/pace.py)
);

-- Roots of the cluster's own certificate authority. The key is encrypted under a key file that every replica holds.
create table fleet.authority (
  authority_id uuid primary key,
  certificate bytea not null,
  encrypted_key bytea not null,
  not_after timestamptz not null,
  retired_at timestamptz,
  made_at timestamptz not null default now(),
  signs_since timestamptz                             -- null: trusted, and not signing yet
);

create table fleet.tenant (
  tenant_id uuid primary key,
  name text not null unique,
  paused boolean not null default false,
  paused_by text,
  paused_at timestamptz,
  made_at timestamptz not null default now(),
  paused_reason text not null default '',
  -- When a host of the tenant is lost, and what becomes of what its agents have claimed: lease (it runs out), hold (kept
  -- until the claim's own limit) or release (at once).
  lost_after interval not null default '60 seconds' check (lost_after >= interval '1 second'),
  lost_claims text not null default 'lease' check (lost_claims in ('lease', 'hold', 'release'))
);

create table fleet.replica (
  replica_id uuid primary key,
  address text not null,
  version text not null,
  started_at timestamptz not null default now(),
  seen_at timestamptz not null default now(),
  -- Somebody follows or watches here: wakes of messages and changes are sent to this replica too.
  watching boolean not null default false,
  register_version integer not null default 0,        -- the version of the register that it is made for
  -- Where it takes calls of other clusters, and of joiners; empty: nowhere.
  peer_address text not null default '',
  enrol_address text not null default ''
);

-- One-time join tokens. The secret is kept as a SHA-256 only. A spent token remembers which key spent it, so that the
-- same joiner gets the same certificate again when the reply was lost.
create table fleet.join_token (
  tenant_id uuid not null references fleet.tenant,
  token_id uuid not null,
  kind text not null check (kind in ('host', 'operator', 'peer')),
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
  revoked_by text not null default '',
  revoked_reason text not null default '',
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
  -- The newest event of the journal which is in the register: a hello that knows less comes from a restored one, too.
  journal_sequence bigint not null default 0,
  revoked_at timestamptz,
  revoked_by text not null default '',
  revoked_reason text not null default '',
  draining_since timestamptz,                         -- its agents claim nothing new from then on
  draining_by text not null default '',
  link_problem text not null default '',              -- why its last link was refused
  primary key (tenant_id, host_id),
  unique (tenant_id, name)
) with (fillfactor = 70);

-- Every leaf issued to a host or an operator, until a week after its end. Replicas issue their own, and keep them in memory.
create table fleet.leaf (
  tenant_id uuid not null references fleet.tenant,
  serial text not null,                               -- the certificate's own number, hex
  kind text not null check (kind in ('host', 'operator')),
  identity_id uuid not null,
  identity_epoch bigint not null,
  authority_id uuid not null references fleet.authority,
  issued_at timestamptz not null default now(),
  not_after timestamptz not null,
  replaced_at timestamptz,                            -- when its holder renewed it
  primary key (tenant_id, serial)
);

create index leaf_by_identity on fleet.leaf (tenant_id, identity_id, not_after);
create index leaf_by_end on fleet.leaf (not_after);

-- The desired roster, every version of it.
create table fleet.roster (
  tenant_id uuid not null references fleet.tenant,
  version bigint not null,
  document jsonb not null,
  applied_by text not null,
  applied_at timestamptz not null default now(),
  primary key (tenant_id, version)
);

-- What the seats of a tenant are all told beside their roles, as of its newest roster.
create table fleet.briefing (
  tenant_id uuid primary key references fleet.tenant,
  content bytea not null                              -- mosaic.v1.Briefing, peers included
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
  driver text not null default '',                    -- who holds the lease on its terminal; empty: nobody
  driven_since timestamptz,
  reported_model text not null default '',            -- what it says itself
  runtime_version text not null default '',
  runtime_session text not null default '',           -- its own id of its session
  -- How much its run can say of a message.
  strongest_step text not null default 'submitted'
    check (strongest_step in ('submitted', 'accepted', 'turn_started', 'turn_ended')),
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
  mode text not null default 'send' check (mode in ('send', 'when_idle', 'interrupt', 'interrupt_only')),
  waits_for text not null default '',                 -- why an open message is not further, as its host last said
  stripped text not null default '',                  -- what of the body no terminal can take
  sent_by text not null default '',                   -- who sent it in the sender's name
  cancel_asked_at timestamptz,
  primary key (tenant_id, message_id)
) with (fillfactor = 70);

create index message_queued_by_host on fleet.message (tenant_id, host_id, recipient_id, seat_seq)
  where step = 'queued';
create index message_open_by_host on fleet.message (tenant_id, host_id)
  where step in ('queued', 'dispatched', 'typed');
create index message_open_by_recipient on fleet.message (tenant_id, recipient_id)
  where step in ('queued', 'dispatched');
create index message_to_cancel on fleet.message (tenant_id, host_id)
  where cancel_asked_at is not null and step in ('queued', 'dispatched');
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
  tenant_id uuid,                                     -- no reference: these rows outlive their tenant
  at timestamptz not null default now(),
  caller_kind text not null,
  caller_id text not null,
  caller_name text not null,
  peer_address text not null default '',
  method text not null,
  target text not null default '',
  request_id text not null default '',
  outcome text not null,                              -- 'done' or an error code
  detail jsonb not null default '{}',
  caller_role text not null default '',               -- an operator's role, an agent's class
  caller_host text not null default ''                -- of an agent
);

create index audit_by_time on fleet.audit (tenant_id, at, audit_id);  -- read newest first, page by page
create index audit_by_age on fleet.audit using brin (at);

-- What changed, for watchers. A sequence is not commit order: readers serve only rows whose xid is below
-- pg_snapshot_xmin(pg_current_snapshot()), ordered by (xid, seq).
create table fleet.change (
  seq bigint generated always as identity,
  xid xid8 not null default pg_current_xact_id(),
  tenant_id uuid not null,
  kind text not null check (kind in ('agent', 'host', 'message', 'roster', 'tenant', 'peer', 'peer_row')),
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

create trigger agent_says_another after update on fleet.agent
  for each row when ((old.reported_model, old.runtime_version, old.runtime_session)
    is distinct from (new.reported_model, new.runtime_version, new.runtime_session))
  execute function fleet.record_agent_change();
create trigger agent_driven after update of driver on fleet.agent
  for each row when (old.driver is distinct from new.driver)
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

create trigger host_link_changed after update on fleet.host
  for each row when (old.link_epoch = new.link_epoch
    and (old.linked_replica, old.draining_since, old.link_problem)
      is distinct from (new.linked_replica, new.draining_since, new.link_problem))
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

-- Every replica hears at once of whoever may no longer stand as before, and of roots that came or went: the key, never more.
create function fleet.tell_standing() returns trigger language plpgsql as $$
begin
  perform pg_notify('mosaic_standing', coalesce(to_jsonb(new), to_jsonb(old)) ->> tg_argv[0]);
  return null;
end $$;

create trigger host_standing_changed after update of state, identity_epoch on fleet.host
  for each row when (old.identity_epoch <> new.identity_epoch or old.state <> new.state and new.state in ('left', 'revoked'))
  execute function fleet.tell_standing('host_id');
create trigger host_deleted after delete on fleet.host
  for each row execute function fleet.tell_standing('host_id');
create trigger operator_standing_changed after update on fleet.operator
  for each row when ((old.role, old.identity_epoch, old.revoked_at) is distinct from (new.role, new.identity_epoch, new.revoked_at))
  execute function fleet.tell_standing('operator_id');
create trigger operator_deleted after delete on fleet.operator
  for each row execute function fleet.tell_standing('operator_id');
create trigger authority_changed after insert or update on fleet.authority
  for each row execute function fleet.tell_standing('authority_id');

-- The backlog: one row a card. Ids are the caller's or ours, compared byte by byte.
create table fleet.card (
  tenant_id uuid not null references fleet.tenant,
  card_id text collate "C" not null,
  seq bigint generated always as identity,            -- the order of creation
  status text not null default 'ready' check (status in
    ('ready', 'claimed', 'review', 'done', 'blocked', 'cancelled')),
  reason text not null default '',                    -- why it is blocked, cancelled or back
  priority integer not null default 0,                -- higher first
  required_class text not null default '',
  labels text[] not null default '{}',
  -- Kept with every write to the graph; `backlog verify` computes them anew.
  unmet integer not null default 0 check (unmet >= 0),  -- dependencies that are not done
  depth integer not null default 0,                   -- the longest chain of dependencies below it
  ready_since timestamptz,                            -- since when it can be claimed; null when it cannot
  -- The claim. The fence rises with every claim, release, block and reclaim, and not when a lease runs out.
  fence bigint not null default 0,
  attempts integer not null default 0,                -- claims since it was made or unblocked
  attempt_limit integer not null default 5 check (attempt_limit > 0),
  time_limit interval not null default '4 hours',     -- of one claim, whoever renews
  expired boolean not null default false,             -- its last claim ran out, and nobody has taken it since
  run_id uuid,                                        -- the run that holds it, or held it last
  holder_kind text,
  holder_id uuid,
  holder_name text,
  claimed_at timestamptz,
  lease interval,
  lease_until timestamptz,                            -- null unless claimed
  renew_until timestamptz,
  -- What it says.
  title text not null,
  body text not null default '',
  mission text not null default '',
  phase text not null default '',
  acceptance text[] not null default '{}',
  urgency text not null default 'normal' check (urgency in ('low', 'normal', 'high', 'critical')),
  goals text[] not null default '{}',
  requirements text[] not null default '{}',
  repository text not null default '',
  branch text not null default '',
  head text not null default '',
  pull_request text not null default '',
  evidence text[] not null default '{}',
  gated boolean not null default false,
  estimate_cost_micros bigint not null default 0,
  estimate_tokens bigint not null default 0,
  estimate_seconds bigint not null default 0,
  estimate_basis text not null default '',
  spent_cost_micros bigint not null default 0,
  spent_tokens bigint not null default 0,
  spent_seconds bigint not null default 0,
  result text not null default '',
  idempotency_key text,
  draft_digest bytea,                                 -- of what an idempotency key stands for
  made_by_kind text not null,
  made_by_id uuid not null,
  made_by_name text not null,
  made_at timestamptz not null default now(),
  changed_at timestamptz not null default now(),
  finished_at timestamptz,
  primary key (tenant_id, card_id)
) with (
  -- Every transition moves the row: room for it on its page, long texts out of its way, and a vacuum that keeps up.
  fillfactor = 70, toast_tuple_target = 512,
  autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0,
  autovacuum_analyze_scale_factor = 0.02, autovacuum_analyze_threshold = 1000
);

-- What a claim reads, in its order: nothing that cannot be claimed is in it.
create index card_ready on fleet.card (tenant_id, (-priority), seq) where status = 'ready' and unmet = 0;
create index card_lease on fleet.card (lease_until) where status = 'claimed';
create index card_by_run on fleet.card (run_id) where status = 'claimed' or expired;
create index card_by_peer on fleet.card (tenant_id, holder_id) where status = 'claimed' and holder_kind = 'peer';
-- seq is always above 0: a query that does not say so cannot take this index for the primary key's. On a table that was empty
-- when the plan was made the two look alike.
create index card_listed on fleet.card (tenant_id, status, seq) where seq > 0;
create unique index card_key on fleet.card (tenant_id, idempotency_key) where idempotency_key is not null;

create table fleet.card_edge (
  tenant_id uuid not null,
  card_id text collate "C" not null,
  depends_on text collate "C" not null,
  primary key (tenant_id, card_id, depends_on),
  foreign key (tenant_id, card_id) references fleet.card,
  foreign key (tenant_id, depends_on) references fleet.card,
  check (card_id <> depends_on)
);

create index card_edge_dependants on fleet.card_edge (tenant_id, depends_on, card_id);
-- One card with 10,000 dependants must not turn the plan of all others.
alter table fleet.card_edge alter column card_id set statistics 0;
alter table fleet.card_edge alter column depends_on set statistics 0;

-- Every transition of a card: its history, and what a repeated request finds. Written only together with the card, whose
-- row is locked then, so no foreign key is checked here.
create table fleet.card_event (
  tenant_id uuid not null,
  card_id text collate "C" not null,
  event_id bigint generated always as identity,
  at timestamptz not null default now(),
  kind text not null,
  status text not null,                               -- afterwards
  fence bigint not null,
  actor_kind text not null,
  actor_id uuid not null,
  actor_name text not null,
  run_id uuid,
  reason text not null default '',
  details jsonb,
  waited interval,                                    -- of a claim: since it could be claimed; of a completion: since the claim
  request_id uuid,
  request_place integer not null default 0,           -- of several cards claimed by one request
  primary key (tenant_id, card_id, event_id)
);

-- An actor is of one tenant. Without tenant_id no plan takes the primary key for this.
create unique index card_event_request on fleet.card_event (request_id, actor_id, request_place) where request_id is not null;
create index card_event_by_time on fleet.card_event using brin (at);

-- When the reaper last looked. The one that finds it older than 3 s makes up for the gap before it takes anything back.
create table fleet.card_reaper (
  only_one boolean primary key default true check (only_one),
  ticked_at timestamptz not null default now()
);

insert into fleet.card_reaper default values;

-- Why `verb` is refused on a card; '' when it is not. asked_fence 0: "the one under which my run holds it", or of a card that
-- nobody holds. may_override: an operator, or the gate.
create function fleet.card_refusal(
  c fleet.card, verb text, asked_fence bigint, actor_id uuid, actor_run uuid, may_override boolean
) returns text language sql stable parallel safe as $$
  select case
    when verb = 'cancel' then case when c.status in ('done', 'cancelled') then 'ended' else '' end
    when verb = 'unblock' then case when c.status = 'blocked' then '' else 'not-blocked' end
    when verb = 'complete' and c.status = 'done' then
      case when c.fence = asked_fence and c.holder_id = actor_id then 'already' else 'ended' end
    when c.status in ('done', 'cancelled') then 'ended'
    when c.status = 'review' and verb in ('complete', 'release', 'block') then
      case when not may_override then 'gate'
           when asked_fence not in (0, c.fence) then 'superseded' else '' end
    when c.status = 'ready' and verb = 'block' and may_override and asked_fence in (0, c.fence) and not c.expired then ''
    -- From here on the claim is what gives the right: one that is held, or that ran out and nobody has taken up since.
    when not (c.status = 'claimed' or c.expired and c.status in ('ready', 'blocked')) then
      case when asked_fence between 1 and c.fence then 'superseded' else 'not-claimed' end
    when asked_fence = 0 and (c.run_id is distinct from actor_run or actor_run is null) then 'not-holder'
    when asked_fence not in (0, c.fence) then 'superseded'
    when c.holder_id is distinct from actor_id and not may_override then 'not-holder'
    when verb = 'complete' and c.gated and not may_override then 'gated'
    when verb in ('renew', 'release', 'block') and (c.status <> 'claimed' or c.lease_until < now()) then 'lease-over'
    else ''
  end
$$;

-- Gives the cards `picked`, whose rows the caller has locked, to the requests in their order; there may be fewer cards than
-- requests. A request that is served elsewhere at this moment gets nothing here.
-- Here and below: the plan must be right even when it was made on an empty table, where every plan looks alike. So each look at
-- a card names its whole key (`= any`, or a lateral subquery that `offset 0` keeps from being merged into a join), and
-- dependants are looked for by a statement that is planned anew each time.
-- Sorting is allowed here, whatever the connection says: without, dependants are read in the order of the primary key, all edges.
create function fleet.take_cards(
  of_tenant uuid, picked text[], requests uuid[], places integer[], runs uuid[], kinds text[], holders uuid[],
  names text[], leases interval[]
) returns table (request_id uuid, place integer, card fleet.card)
language plpgsql set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_sort = on
set jit = off set plan_cache_mode = force_generic_plan as $$
begin
  if cardinality(picked) = 0 then
    return;
  end if;
  return query
  with wanted as (
    select w.* from unnest(picked, requests, places, runs, kinds, holders, names, leases)
      as w (card_id, request_id, place, run_id, kind, holder_id, name, lease)
    where w.card_id is not null
      -- An agent on a host that is being drained takes nothing new.
      and (w.kind <> 'agent' or (
        select h.draining_since from fleet.host h where h.tenant_id = of_tenant and h.host_id = (
          select a.host_id from fleet.agent a where a.tenant_id = of_tenant and a.agent_id = w.holder_id)) is null)
  ), noted as (
    insert into fleet.card_event (tenant_id, card_id, kind, status, fence, actor_kind, actor_id, actor_name, run_id, waited,
      request_id, request_place)
    select of_tenant, c.card_id, 'claimed', 'claimed', c.fence + 1, w.kind, w.holder_id, w.name, w.run_id,
      now() - c.ready_since, w.request_id, w.place
    from wanted w cross join lateral (
      select k.card_id, k.fence, k.ready_since from fleet.card k
      where k.tenant_id = of_tenant and k.card_id = w.card_id offset 0
    ) c
    order by w.request_id, w.place
    on conflict do nothing
    returning card_event.card_id, card_event.request_id, card_event.request_place
  )
  update fleet.card c set status = 'claimed', fence = c.fence + 1, attempts = c.attempts + 1, expired = false, reason = '',
    run_id = w.run_id, holder_kind = w.kind, holder_id = w.holder_id, holder_name = w.name, claimed_at = now(),
    lease = w.lease, lease_until = now() + least(w.lease, c.time_limit), renew_until = now() + c.time_limit,
    ready_since = null, changed_at = now()
  from wanted w join noted n on n.request_id = w.request_id and n.request_place = w.place
  where c.tenant_id = of_tenant and c.card_id = any(picked) and c.card_id = w.card_id
  returning w.request_id, w.place, c;
end $$;

-- Completes cards; `asked` is an array of objects, no card twice. Two statements, not one: the dependants are looked for only
-- when the locks on what they depend on are held, else an edge that is added meanwhile is missed (and the counter is wrong
-- for ever). Whoever adds an edge holds a key-share lock on what it depends on, which waits for the lock taken here.
-- freed_rank, freed_seq: the place in the order of claims of the first card that can be claimed now because of this.
create function fleet.complete_cards(of_tenant uuid, asked jsonb)
returns table (slot integer, refusal text, freed_rank integer, freed_seq bigint, card fleet.card)
language plpgsql set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_sort = on
set jit = off set plan_cache_mode = force_generic_plan as $$
declare
  slots integer[];
  refusals text[];
  cards fleet.card[];
  finished text[];
  dependants text[];
  first_rank integer;
  first_seq bigint;
begin
  if jsonb_array_length(asked) = 0 then
    return;
  end if;
  perform 1 from fleet.card c
  where c.tenant_id = of_tenant
    and c.card_id = any(array(select a.card_id from jsonb_to_recordset(asked) as a (card_id text)))
  order by c.card_id for update;

  with judged as (
    select a.*, held.row, (held.row).claimed_at, (held.row).fence as held_fence,
      case
        when held.row is null then 'not-found'
        when e.card_id = a.card_id and e.kind = 'completed' then 'already'
        when e.card_id is not null then 'request-reused'
        else fleet.card_refusal(held.row, 'complete', a.fence, a.actor_id, a.run_id, a.may_override)
      end as refusal
    from jsonb_to_recordset(asked) as a (slot integer, card_id text, fence bigint, actor_kind text, actor_id uuid,
      actor_name text, run_id uuid, may_override boolean, request_id uuid, place integer, result text, head text,
      pull_request text, evidence text[], cost_micros bigint, tokens bigint, seconds bigint)
    left join lateral (
      select c as row from fleet.card c where c.tenant_id = of_tenant and c.card_id = a.card_id offset 0
    ) held on true
    left join lateral (
      select k.card_id, k.kind from fleet.card_event k
      where k.request_id = a.request_id and k.actor_id = a.actor_id and k.request_place = a.place offset 0
    ) e on true
  ), noted as (
    insert into fleet.card_event (tenant_id, card_id, kind, status, fence, actor_kind, actor_id, actor_name, run_id, waited,
      reason, request_id, request_place)
    select of_tenant, j.card_id, 'completed', 'done', j.held_fence, j.actor_kind, j.actor_id, j.actor_name, j.run_id,
      now() - j.claimed_at, left(j.result, 500), j.request_id, j.place
    from judged j where j.refusal = ''
    order by j.request_id, j.place
    on conflict do nothing
    returning card_event.card_id
  ), moved as (
    update fleet.card c set status = 'done', reason = '', expired = false, lease_until = null, renew_until = null,
      ready_since = null, finished_at = now(), changed_at = now(), result = j.result,
      head = coalesce(nullif(j.head, ''), c.head), pull_request = coalesce(nullif(j.pull_request, ''), c.pull_request),
      evidence = c.evidence || j.evidence, spent_cost_micros = c.spent_cost_micros + j.cost_micros,
      spent_tokens = c.spent_tokens + j.tokens, spent_seconds = c.spent_seconds + j.seconds
    from judged j
    where j.refusal = '' and c.tenant_id = of_tenant and c.card_id = any(array(select n.card_id from noted n))
      and c.card_id = j.card_id
    returning j.slot, c as row
  )
  select array_agg(j.slot), array_agg(case when j.refusal = '' and m.slot is null then 'request-reused' else j.refusal end),
    array_agg(coalesce(m.row, j.row)),
    array_agg(j.card_id) filter (where m.slot is not null)
  into slots, refusals, cards, finished
  from judged j left join moved m on m.slot = j.slot;

  if finished is not null then
    execute 'select array_agg(distinct e.card_id) from fleet.card_edge e where e.tenant_id = $1 and e.depends_on = any($2)'
    into dependants using of_tenant, finished;
  end if;
  if dependants is not null then
    perform 1 from fleet.card c where c.tenant_id = of_tenant and c.card_id = any(dependants)
    order by c.card_id for no key update;
    with met as (
      select d.card_id, (select count(*)::integer from fleet.card_edge e
        where e.tenant_id = of_tenant and e.card_id = d.card_id and e.depends_on = any(finished)) as now_done
      from unnest(dependants) as d (card_id)
    ), freed as (
      update fleet.card c set changed_at = now(), unmet = c.unmet - m.now_done,
        ready_since = case when c.status = 'ready' and c.unmet = m.now_done then now() else c.ready_since end
      from met m
      where c.tenant_id = of_tenant and c.card_id = any(dependants) and c.card_id = m.card_id
      returning c.status, c.unmet, -c.priority as rank, c.seq
    )
    select f.rank, f.seq into first_rank, first_seq from freed f
    where f.status = 'ready' and f.unmet = 0 order by f.rank, f.seq limit 1;
  end if;
  return query select slots[i], refusals[i], first_rank, first_seq, cards[i] from generate_subscripts(slots, 1) as s (i);
end $$;

-- Puts the depth of a card and of all above it right, level by level. Returns the first card found deeper than `most`, or null.
create function fleet.settle_depth(of_tenant uuid, from_card text, most integer) returns text
language plpgsql set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_sort = on
set jit = off as $$
declare
  level text[] := array[from_card];
  changed text[];
  offender text;
begin
  while level is not null loop
    perform 1 from fleet.card c where c.tenant_id = of_tenant and c.card_id = any(level)
    order by c.card_id for no key update;
    with right_depth as (
      select l.card_id, coalesce((
        select max(d.depth) + 1 from fleet.card d where d.tenant_id = of_tenant and d.card_id = any(array(
          select e.depends_on from fleet.card_edge e where e.tenant_id = of_tenant and e.card_id = l.card_id))), 0) as depth
      from unnest(level) as l (card_id)
    ), settled as (
      update fleet.card c set depth = r.depth from right_depth r
      where c.tenant_id = of_tenant and c.card_id = any(level) and c.card_id = r.card_id and c.depth <> r.depth
      returning c.card_id, c.depth
    )
    select array_agg(s.card_id), min(s.card_id) filter (where s.depth > most) into changed, offender from settled s;
    if offender is not null then
      return offender;
    end if;
    execute 'select array_agg(distinct e.card_id) from fleet.card_edge e where e.tenant_id = $1 and e.depends_on = any($2)'
    into level using of_tenant, changed;
  end loop;
  return null;
end $$;

-- Whether a row of the audit is one that is asked for; '' asks for any.
create function fleet.audit_matches(
  a fleet.audit, caller text, kind text, of_method text, of_target text, of_outcome text
) returns boolean language sql immutable parallel safe as $$
  select (caller = '' or a.caller_name = caller) and (kind = '' or a.caller_kind = kind)
    and (of_method = '' or a.method = of_method or split_part(a.method, '/', 1) = of_method
      or split_part(a.method, '/', 2) = of_method)
    and (of_target = '' or a.target = of_target)
    and (of_outcome = '' or a.outcome = of_outcome or of_outcome = 'failed' and a.outcome <> 'done')
$$;

-- Removes a tenant with every row that names it, those first that refer to others. Returns how many rows of each table went.
-- The tables are asked of the catalogue, so that none can be forgotten; the audit stays.
create function fleet.remove_tenant(of_tenant uuid) returns table (name text, removed bigint) language plpgsql as $$
begin
  -- Whoever writes a row of this tenant now waits here, and is then refused by the row that is gone.
  perform 1 from fleet.tenant t where t.tenant_id = of_tenant for update;
  for name in
    with recursive refers as (
      select c.conrelid as child, c.confrelid as parent from pg_constraint c
      where c.contype = 'f' and c.connamespace = 'fleet'::regnamespace and c.conrelid <> c.confrelid
    ), level as (
      select a.attrelid as rel, 0 as depth from pg_attribute a join pg_class k on k.oid = a.attrelid
      where a.attname = 'tenant_id' and not a.attisdropped and k.relkind in ('r', 'p')
        and k.relnamespace = 'fleet'::regnamespace and k.relname <> 'audit'
      union all
      select r.child, l.depth + 1 from level l join refers r on r.parent = l.rel
    )
    select k.relname::text from level l join pg_class k on k.oid = l.rel
    group by k.relname order by max(l.depth) desc, k.relname
  loop
    execute format('delete from fleet.%I where tenant_id = $1', name) using of_tenant;
    get diagnostics removed = row_count;
    return next;
  end loop;
end $$;

-- Other clusters. peer_id is the pairing's: the same on both sides, and never used again; the name is what it is called here.
-- A revoked one is a tombstone: its bundle is empty, its grants and rows are gone.
create table fleet.peer (
  tenant_id uuid not null references fleet.tenant,
  peer_id uuid not null,
  name text not null,
  trust_domain text not null,
  cluster text not null,
  their_tenant text not null,
  role text not null default 'viewer' check (role in ('viewer', 'operator')),
  bundle bytea not null,
  addresses text[] not null default '{}',
  enrol_addresses text[] not null default '{}',
  paired_at timestamptz not null default now(),
  paired_by text not null,
  grants_changed_at timestamptz not null default now(),
  revoked_at timestamptz,
  revoked_by text not null default '' check (revoked_by in ('', 'us', 'peer')),
  revoked_reason text not null default '',
  told_at timestamptz,
  primary key (tenant_id, peer_id)
);

create unique index peer_id_once on fleet.peer (peer_id);
create unique index peer_name_once on fleet.peer (tenant_id, name) where revoked_at is null;
create unique index peer_trust_domain_once on fleet.peer (tenant_id, trust_domain) where revoked_at is null;

create table fleet.peer_grant (
  tenant_id uuid not null references fleet.tenant,
  grant_id uuid not null,
  peer_id uuid not null,
  kind text not null check (kind in ('see', 'send', 'watch', 'claim')),
  selector text not null,
  fields text[] not null default '{}',
  most integer not null default 0,
  expires_at timestamptz not null,
  made_by text not null,
  made_at timestamptz not null default now(),
  ended_at timestamptz,
  ended_by text not null default '',
  primary key (tenant_id, grant_id),
  foreign key (tenant_id, peer_id) references fleet.peer on delete cascade
);

create index peer_grant_by_peer on fleet.peer_grant (tenant_id, peer_id) where ended_at is null;

create table fleet.peer_feed (
  tenant_id uuid not null references fleet.tenant,
  peer_id uuid not null,
  register_epoch uuid,
  cursor text not null default '',
  bookmark_at timestamptz,
  health text not null default 'paired' check (health in ('paired', 'live', 'stale', 'lost')),
  problem text not null default '',
  version text not null default '',
  granted bytea not null default '',
  skipped jsonb not null default '{}',
  primary key (tenant_id, peer_id),
  foreign key (tenant_id, peer_id) references fleet.peer on delete cascade
);

-- By the age of the last bookmark, not by whether a stream is open: one is due every 10 s, and at most 15 s apart.
create function fleet.peer_health(bookmark_at timestamptz) returns text language sql stable as $$
  select case
    when bookmark_at is null then 'paired'
    when bookmark_at > now() - interval '45 seconds' then 'live'
    when bookmark_at > now() - interval '10 minutes' then 'stale'
    else 'lost'
  end
$$;

create table fleet.peer_row (
  tenant_id uuid not null references fleet.tenant,
  peer_id uuid not null,
  kind text not null,
  id uuid not null,
  content bytea not null,
  removed_at timestamptz,
  primary key (tenant_id, peer_id, kind, id),
  foreign key (tenant_id, peer_id) references fleet.peer on delete cascade
);

create index peer_row_removed on fleet.peer_row (removed_at) where removed_at is not null;
create index peer_row_by_id on fleet.peer_row (tenant_id, id);

-- Messages to agents of peers. `waiting`: the peer has surely not got it, and is given it when it can be; `offered`: a call with
-- it is or was under way, and nothing is known of it; `handed`: the peer has it, and its receipt is as the peer last said;
-- `unknown`: it was offered, and the deadline has passed since.
create table fleet.peer_message (
  tenant_id uuid not null references fleet.tenant,
  message_id uuid not null,
  peer_id uuid not null,
  caller text not null,                               -- whose it is: Caller.key
  address text not null,                              -- host/agent, as the peer calls it
  request bytea not null,                             -- mosaic.v1.SendRequest as the peer gets it, but for the deadline
  origin bytea not null,                              -- mosaic.v1.OriginatingIdentity
  queued boolean not null,                            -- may wait for a peer that is away
  made_at timestamptz not null default now(),
  deadline_at timestamptz not null,
  state text not null check (state in
    ('waiting', 'offered', 'handed', 'failed', 'expired', 'cancelled', 'unknown')),
  receipt bytea not null default '',                  -- mosaic.v1.Receipt
  steps integer not null default 0,                   -- of the receipt: it only grows
  ended boolean not null default false,               -- the receipt is at an end
  problem text not null default '',
  tried_at timestamptz not null default clock_timestamp(),  -- which attempt it was offered in
  primary key (tenant_id, message_id),
  foreign key (tenant_id, peer_id) references fleet.peer on delete cascade
);

create index peer_message_open on fleet.peer_message (peer_id, made_at) where state in ('waiting', 'offered');
create index peer_message_on_its_way on fleet.peer_message (peer_id, tried_at) where state = 'handed' and not ended;
create index peer_message_by_age on fleet.peer_message (tenant_id, made_at);

create trigger peer_message_added after insert on fleet.peer_message
  for each row execute function fleet.record_message_change();
create trigger peer_message_changed after update on fleet.peer_message
  for each row when ((old.state, old.steps, old.problem) is distinct from (new.state, new.steps, new.problem))
  execute function fleet.record_message_change();

create function fleet.record_peer_change() returns trigger language plpgsql as $$
begin
  insert into fleet.change (tenant_id, kind, id) values (new.tenant_id, 'peer', new.peer_id);
  return null;
end $$;

create trigger peer_added after insert on fleet.peer
  for each row execute function fleet.record_peer_change();
create trigger peer_changed after update on fleet.peer
  for each row execute function fleet.record_peer_change();
create trigger peer_feed_changed after update on fleet.peer_feed
  for each row when ((old.health, old.problem, old.version, old.granted, old.skipped)
    is distinct from (new.health, new.problem, new.version, new.granted, new.skipped))
  execute function fleet.record_peer_change();

create function fleet.record_peer_rows_change() returns trigger language plpgsql as $$
begin
  insert into fleet.change (tenant_id, kind, id) select tenant_id, 'peer_row', id from changed;
  return null;
end $$;

create trigger peer_rows_added after insert on fleet.peer_row referencing new table as changed
  for each statement execute function fleet.record_peer_rows_change();
create trigger peer_rows_changed after update on fleet.peer_row referencing new table as changed
  for each statement execute function fleet.record_peer_rows_change();

-- A pairing that begins or ends, another role or bundle, a grant that changes: told to every replica, whose streams look again.
create trigger peer_standing_added after insert on fleet.peer
  for each row execute function fleet.tell_standing('peer_id');
create trigger peer_standing_changed after update on fleet.peer
  for each row when ((old.role, old.revoked_at, old.grants_changed_at, old.bundle)
    is distinct from (new.role, new.revoked_at, new.grants_changed_at, new.bundle))
  execute function fleet.tell_standing('peer_id');
create trigger peer_deleted after delete on fleet.peer
  for each row execute function fleet.tell_standing('peer_id');
