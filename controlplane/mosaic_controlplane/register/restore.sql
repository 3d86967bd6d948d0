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
