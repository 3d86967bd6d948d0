-- name: replica_alive
-- A replica that runs goes on with the epoch it read at its start, and with what it knew of this register.
select address from fleet.replica where seen_at > now() - interval '15 seconds' order by seen_at desc limit 1

-- name: new_epoch
-- Cursors of before are refused. The xids of another cluster mean nothing here: what is to be forgotten begins anew.
update fleet.cluster set register_epoch = $1, changes_forgotten_up_to = '0' returning register_epoch

-- name: forget_changes
delete from fleet.change

-- name: forget_replicas
delete from fleet.replica

-- name: void_tokens
-- One that was spent after the backup is unspent again here, and somebody may still have it.
update fleet.join_token set expires_at = now() where spent_at is null and expires_at > now() returning token_id

-- name: raise_hosts
-- A host may have seen a newer generation than the backup has, and ignores older ones. The time is newer than any of them.
update fleet.host set linked_replica = null, generation = greatest(generation + 1, extract(epoch from now())::bigint)
returning host_id

-- name: raise_seats
update fleet.agent set generation = greatest(generation + 1, extract(epoch from now())::bigint) where removed_at is null

-- name: ask_again
-- What their hosts have told since the backup is lost here. Offered again under the next link, a host that knows them tells
-- every step anew and types nothing; one whose journal is another by then finds them unknown, as ever.
update fleet.message set step = 'queued' where step in ('dispatched', 'typed') and offered_link_epoch is not null
returning message_id

-- name: void_claims
-- A fence given out after the backup would be given out again, to somebody else: two would hold one card under one number.
-- So fences go on from the time, which is newer than any of them, and who held a card at the backup claims it anew.
with moved as (
  update fleet.card c set
    fence = greatest(c.fence + 1, extract(epoch from now())::bigint), expired = false, changed_at = now(),
    status = case when c.status = 'claimed' then 'ready' else c.status end,
    reason = case when c.status = 'claimed' then 'the register was restored from a backup' else c.reason end,
    attempts = case when c.status = 'claimed' then greatest(c.attempts - 1, 0) else c.attempts end,
    ready_since = case when c.status = 'claimed' then case when c.unmet = 0 then now() end else c.ready_since end,
    lease_until = null, renew_until = null
  from fleet.card was
  where was.tenant_id = c.tenant_id and was.card_id = c.card_id and c.status not in ('done', 'cancelled')
  returning c.tenant_id, c.card_id, c.status, c.fence, c.run_id, was.status = 'claimed' as held
), noted as (
  insert into fleet.card_event (tenant_id, card_id, kind, status, fence, actor_kind, actor_id, actor_name, run_id, reason)
  select m.tenant_id, m.card_id, case when m.held then 'reclaimed' else 'changed' end, m.status, m.fence,
    'operator', $1, 'restore', m.run_id, 'the register was restored from a backup'
  from moved m
)
select count(*) from moved where held
