-- How a message is to be delivered, why it waits, what was left out of it, in whose name it was sent, and cancels.

alter table fleet.message
  add column mode text not null default 'send' check (mode in ('send', 'when_idle', 'interrupt', 'interrupt_only')),
  add column waits_for text not null default '',
  add column stripped text not null default '',
  add column sent_by text not null default '',
  add column cancel_asked_at timestamptz;

create index message_open_by_recipient on fleet.message (tenant_id, recipient_id)
  where step in ('queued', 'dispatched');
create index message_to_cancel on fleet.message (tenant_id, host_id)
  where cancel_asked_at is not null and step in ('queued', 'dispatched');

alter table fleet.agent
  add column strongest_step text not null default 'submitted'
    check (strongest_step in ('submitted', 'accepted', 'turn_started', 'turn_ended'));
