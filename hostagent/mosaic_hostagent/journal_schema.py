"""The journal's tables. One file, `journal.db`, in a folder of its own, so that it moves as a whole."""

FORMAT = 2

SCHEMA = """
create table meta (key text primary key, value text not null) without rowid;

-- Messages given to this host. The body goes when it can no longer be typed nor stand in a composer.
create table inbox (
  message_id text primary key,
  agent_id text not null,
  seat_seq integer not null,
  body text not null,
  digest text not null,
  sender text not null,
  sender_is_person integer not null,
  step text not null,
  reason text not null default '',
  run_id text not null default '',
  deadline_boot text not null,
  deadline_monotonic_ms integer not null,
  deadline_wall_ms integer not null,
  step_wall_ms integer not null,
  mode text not null default 'send'
) without rowid;
create index inbox_run on inbox (run_id)
  where step not in ('dispatched', 'turn_ended', 'failed', 'expired', 'cancelled');
create index inbox_open on inbox (agent_id, seat_seq) where step = 'dispatched';
create index inbox_left on inbox (agent_id) where step = 'unknown' and body <> '';

-- Each step that was told, so that it can be told again.
create table inbox_step (
  message_id text not null references inbox on delete cascade,
  event blob not null,
  boot text not null,
  monotonic_ms integer not null,
  wall_ms integer not null
);
create index inbox_step_message on inbox_step (message_id);

-- Facts for the register, until it has acknowledged them.
create table outbox (
  sequence integer primary key autoincrement,
  event blob not null,
  boot text not null,
  monotonic_ms integer not null,
  wall_ms integer not null
);

-- Runs that have begun and not ended.
create table run (
  run_id text primary key,
  agent_id text not null
) without rowid;
"""

CHANGES = {
    2: """
alter table inbox add column mode text not null default 'send';
create index inbox_run on inbox (run_id)
  where step not in ('dispatched', 'turn_ended', 'failed', 'expired', 'cancelled');
update meta set value = '2' where key = 'format';
"""
}
"""What makes a journal of the format before into one of this format."""
