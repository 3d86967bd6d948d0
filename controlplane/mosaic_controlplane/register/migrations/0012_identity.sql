-- The whole life of an identity: which leaves were issued, who was revoked and why, and roots that overlap.

alter table fleet.host
  add column revoked_at timestamptz,
  add column revoked_by text not null default '',
  add column revoked_reason text not null default '';
update fleet.host set revoked_at = now() where state = 'revoked';

alter table fleet.operator
  add column revoked_by text not null default '',
  add column revoked_reason text not null default '';

-- A root is trusted from the moment it is made, and signs from signs_since on: until then those who must trust it are told.
alter table fleet.authority add column signs_since timestamptz;
update fleet.authority set signs_since = made_at;

create table fleet.leaf (
  tenant_id uuid not null references fleet.tenant,
  serial text not null,
  kind text not null check (kind in ('host', 'operator')),
  identity_id uuid not null,
  identity_epoch bigint not null,
  authority_id uuid not null references fleet.authority,
  issued_at timestamptz not null default now(),
  not_after timestamptz not null,
  replaced_at timestamptz,
  primary key (tenant_id, serial)
);

create index leaf_by_identity on fleet.leaf (tenant_id, identity_id, not_after);
create index leaf_by_end on fleet.leaf (not_after);

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
