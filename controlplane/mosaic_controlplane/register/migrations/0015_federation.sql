-- Other clusters: who is paired, what each may do here, and what of theirs is known here.

alter table fleet.join_token drop constraint join_token_kind_check;
alter table fleet.join_token add constraint join_token_kind_check check (kind in ('host', 'operator', 'peer'));

-- Where a replica takes calls of other clusters, and of joiners; empty: nowhere.
alter table fleet.replica
  add column peer_address text not null default '',
  add column enrol_address text not null default '';

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

create table fleet.peer_message (
  tenant_id uuid not null references fleet.tenant,
  message_id uuid not null,
  peer_id uuid not null,
  caller text not null,
  address text not null,
  request bytea not null,
  origin bytea not null,
  queued boolean not null,
  made_at timestamptz not null default now(),
  deadline_at timestamptz not null,
  state text not null check (state in
    ('waiting', 'offered', 'handed', 'failed', 'expired', 'cancelled', 'unknown')),
  receipt bytea not null default '',
  steps integer not null default 0,
  ended boolean not null default false,
  problem text not null default '',
  tried_at timestamptz not null default clock_timestamp(),
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

create index card_by_peer on fleet.card (tenant_id, holder_id) where status = 'claimed' and holder_kind = 'peer';

alter table fleet.change drop constraint change_kind_check;
alter table fleet.change add constraint change_kind_check
  check (kind in ('agent', 'host', 'message', 'roster', 'tenant', 'peer', 'peer_row'));

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
