-- How far each peer's rows have come in, and how old what it said last is.

-- name: hold
-- Until the transaction ends the pairing stands: whoever ends it waits, and then takes away what was written meanwhile.
select f.register_epoch, f.cursor, f.skipped::text as skipped
from fleet.peer p join fleet.peer_feed f using (tenant_id, peer_id)
where p.tenant_id = $1 and p.peer_id = $2 and p.revoked_at is null
for share of p

-- name: advance
update fleet.peer_feed set cursor = $3 where tenant_id = $1 and peer_id = $2

-- name: anew
update fleet.peer_feed set cursor = $3, register_epoch = $4, version = $5 where tenant_id = $1 and peer_id = $2

-- name: heard
update fleet.peer_feed set bookmark_at = now(), health = 'live', problem = '' where tenant_id = $1 and peer_id = $2

-- name: set_granted
update fleet.peer_feed set granted = $3 where tenant_id = $1 and peer_id = $2

-- name: set_skipped
update fleet.peer_feed set skipped = $3::jsonb where tenant_id = $1 and peer_id = $2

-- name: set_problem
update fleet.peer_feed set problem = $3 where tenant_id = $1 and peer_id = $2 and problem <> $3 returning peer_id

-- name: judge
-- Health as it is now, where it is written down as something else.
update fleet.peer_feed set health = fleet.peer_health(bookmark_at) where health <> fleet.peer_health(bookmark_at)
returning tenant_id, peer_id, health
