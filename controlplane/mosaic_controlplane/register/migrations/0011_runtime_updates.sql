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
