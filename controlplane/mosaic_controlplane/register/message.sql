-- name: queue
-- The seat's row lock gives seat_seq, the order of typing. Nothing is returned when the seat is gone, the id is taken, or
-- $15 messages are open at the seat; senders at the same moment may go over that by their number.
with taken as (
  select 1 from fleet.message where tenant_id = $1 and message_id = $2
  union all
  select 1 from fleet.peer_message where tenant_id = $1 and message_id = $2
), open as (
  select count(*) as number from (
    select 1 from fleet.message where tenant_id = $1 and recipient_id = $6 and step in ('queued', 'dispatched') limit $15
  ) waiting
), seat as (
  update fleet.agent set next_seat_seq = next_seat_seq + 1
  where tenant_id = $1 and agent_id = $6 and removed_at is null and not exists (select from taken)
    and (select number from open) < $15
  returning host_id, next_seat_seq - 1 as seat_seq
), added as (
  insert into fleet.message (tenant_id, message_id, sender_kind, sender_id, sender_name, recipient_kind, recipient_id,
    host_id, seat_seq, body, payload_digest, deadline_at, reply_to, thread_id, mode, sent_by, stripped)
  select $1, $2, $3, $4, $5, 'agent', $6, seat.host_id, seat.seat_seq, $7, $8, now() + $9::interval, $10, $11, $12, $13, $14
  from seat
  on conflict (tenant_id, message_id) do nothing
  returning tenant_id, message_id, host_id, created_at
), step as (
  insert into fleet.message_step (tenant_id, message_id, step, at, source, detail)
  select tenant_id, message_id, 'queued', created_at, 'control-plane', 'written to the register' from added
)
select host_id from added

-- name: identity
select m.sender_kind, m.sender_id, m.payload_digest, m.recipient_id, h.name as host, a.name
from fleet.message m
join fleet.agent a on a.tenant_id = m.tenant_id and a.agent_id = m.recipient_id
join fleet.host h on h.tenant_id = m.tenant_id and h.host_id = m.host_id
where m.tenant_id = $1 and m.message_id = $2

-- name: receipts
select m.message_id, m.sender_kind, m.sender_id, m.sender_name, m.recipient_kind, m.recipient_id, m.host_id, m.seat_seq,
  m.step, m.reason, m.created_at, m.deadline_at, m.mode, m.waits_for, m.stripped, m.sent_by, m.cancel_asked_at,
  case when $2::uuid is null then '' else m.body end as body, m.reply_to, m.thread_id, t.name as tenant,
  a.name as recipient_name, h.name as recipient_host, a.strongest_step as recipient_strongest_step,
  coalesce(sh.name, '') as sender_host,
  (select json_agg(json_build_object('step', s.step, 'at', s.at, 'source', s.source, 'detail', s.detail,
     'reason', s.reason) order by s.at, array_position(array['queued', 'dispatched', 'typed', 'submitted', 'accepted',
     'turn_started', 'turn_ended'], s.step) nulls last)::text
   from fleet.message_step s where s.tenant_id = m.tenant_id and s.message_id = m.message_id) as steps
from fleet.message m
join fleet.tenant t using (tenant_id)
left join fleet.agent a on a.tenant_id = m.tenant_id and a.agent_id = m.recipient_id
left join fleet.host h on h.tenant_id = m.tenant_id and h.host_id = m.host_id
left join fleet.agent s on s.tenant_id = m.tenant_id and s.agent_id = m.sender_id and m.sender_kind = 'agent'
left join fleet.host sh on sh.tenant_id = s.tenant_id and sh.host_id = s.host_id
where m.tenant_id = $1
  and ($2::uuid is null or m.message_id = $2)
  and ($3::uuid[] is null or m.recipient_id = any($3))
  and (not $4 or m.step in ('queued', 'dispatched', 'typed', 'submitted', 'accepted', 'turn_started'))
order by m.created_at desc
limit $5

-- name: by_prefix
select message_id from fleet.message
where tenant_id = $1 and message_id between $2 and $3
order by message_id limit 6

-- name: offer
-- What the host has not yet been given under this link, in the order of typing. From here on only the host ends it. The
-- host's row is held, so that no other journal takes over between the look and the mark; but only when there is something
-- to give. A message that is locked is being ended or acknowledged: nothing to wait for.
with held as (
  select h.journal_id from fleet.host h
  where h.tenant_id = $1 and h.host_id = $2 and h.link_epoch = $3 and h.confirmed_epoch = $3
    and exists (select from fleet.message m where m.tenant_id = $1 and m.host_id = $2 and m.step = 'queued'
                and (m.offered_link_epoch is null or m.offered_link_epoch < $3))
  for share of h
), due as (
  select message_id from fleet.message
  where tenant_id = $1 and host_id = $2 and step = 'queued'
    and (offered_link_epoch is null or offered_link_epoch < $3)
    and (offered_link_epoch is not null or deadline_at > now())
    and exists (select from held)
  order by recipient_id, seat_seq
  limit $4
  for update skip locked
)
update fleet.message m set offered_link_epoch = $3, offered_journal_id = (select journal_id from held)
from due
where m.tenant_id = $1 and m.message_id = due.message_id
returning m.message_id, m.recipient_id, m.seat_seq, m.body, m.payload_digest, m.sender_kind, m.sender_name, m.mode,
  coalesce((select h.name from fleet.agent s join fleet.host h using (tenant_id, host_id)
            where s.tenant_id = $1 and s.agent_id = m.sender_id and m.sender_kind = 'agent'), '') as sender_host,
  greatest(0, extract(epoch from m.deadline_at - now()) * 1000)::bigint as remaining_ms

-- name: step
-- A step rises or it is not taken (fleet.step_may_follow). Returns the message when it was taken.
with moved as (
  update fleet.message m set step = $4, reason = $5, waits_for = ''
  where m.tenant_id = $1 and m.host_id = $2 and m.message_id = $3 and fleet.step_may_follow(m.step, $4)
  returning m.tenant_id, m.message_id
)
insert into fleet.message_step (tenant_id, message_id, step, at, source, detail, reason)
select tenant_id, message_id, $4, now() - $6::interval, $7, $8, $5 from moved
on conflict (tenant_id, message_id, step) do nothing
returning message_id

-- name: journal_replaced
-- The host's journal is not the one these were given to: nobody can say any more whether they were typed.
with lost as (
  update fleet.message set step = 'unknown', reason = $3
  where tenant_id = $1 and host_id = $2
    and (step in ('dispatched', 'typed') or step = 'queued' and offered_link_epoch is not null)
  returning tenant_id, message_id
)
insert into fleet.message_step (tenant_id, message_id, step, at, source, detail, reason)
select tenant_id, message_id, 'unknown', now(), 'control-plane', '', $3 from lost
on conflict (tenant_id, message_id, step) do nothing
returning message_id

-- name: expire
-- Past the deadline: never offered, so nothing can have been typed, it expires; offered and not acknowledged for 60 s more,
-- nobody can say, it is unknown until its host tells.
with late as (
  select tenant_id, message_id, offered_link_epoch is null as untouched from fleet.message
  where step = 'queued' and deadline_at < now()
    and (offered_link_epoch is null or deadline_at < now() - interval '60 seconds')
  limit 1000
  for update skip locked
), ended as (
  update fleet.message m set step = case when l.untouched then 'expired' else 'unknown' end,
    reason = case when l.untouched then 'the deadline passed before the host could be given it'
             else 'the deadline passed and the host has not said whether it got it' end
  from late l where m.tenant_id = l.tenant_id and m.message_id = l.message_id
  returning m.tenant_id, m.message_id, m.step, m.reason
), noted as (
  insert into fleet.message_step (tenant_id, message_id, step, at, source, reason)
  select tenant_id, message_id, step, now(), 'control-plane', reason from ended
  on conflict (tenant_id, message_id, step) do nothing
)
select tenant_id, message_id from ended

-- name: fail_unoffered
-- Their seat was taken out of the roster before any host was given them.
with failed as (
  update fleet.message set step = 'failed', reason = $3
  where tenant_id = $1 and recipient_id = any($2::uuid[]) and step = 'queued' and offered_link_epoch is null
  returning tenant_id, message_id
)
insert into fleet.message_step (tenant_id, message_id, step, at, source, reason)
select tenant_id, message_id, 'failed', now(), 'control-plane', $3 from failed
returning message_id

-- name: cancel
-- Take back what no host was given yet; of what one was given, note that it is asked for. Returns the step it is at now, and
-- whether it is asked for only now.
with one as (
  select message_id, step, offered_link_epoch, cancel_asked_at from fleet.message
  where tenant_id = $1 and message_id = $2
  for update
), ended as (
  update fleet.message m set step = 'cancelled', reason = $3, waits_for = ''
  from one where m.tenant_id = $1 and m.message_id = one.message_id and one.step = 'queued'
    and one.offered_link_epoch is null
  returning m.message_id
), noted as (
  insert into fleet.message_step (tenant_id, message_id, step, at, source, reason)
  select $1, message_id, 'cancelled', now(), 'control-plane', $3 from ended
), asked as (
  update fleet.message m set cancel_asked_at = now()
  from one where m.tenant_id = $1 and m.message_id = one.message_id and one.step in ('queued', 'dispatched')
    and one.offered_link_epoch is not null and one.cancel_asked_at is null
  returning m.message_id
)
select case when exists (select from ended) then 'cancelled' else one.step end as step, exists (select from asked) as asked
from one

-- name: cancels_of_host
select message_id from fleet.message
where tenant_id = $1 and host_id = $2 and cancel_asked_at is not null and step in ('queued', 'dispatched')
order by message_id limit 1000

-- name: waits
-- Why open messages of this host are not further. What is past that says nothing any more.
update fleet.message m set waits_for = w.reason
from unnest($3::uuid[], $4::text[]) as w (message_id, reason)
where m.tenant_id = $1 and m.host_id = $2 and m.message_id = w.message_id
  and m.step in ('queued', 'dispatched', 'typed') and m.waits_for is distinct from w.reason
returning m.message_id
