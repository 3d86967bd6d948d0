-- Messages to agents of peers: see schema.sql, fleet.peer_message, for their states.

-- name: add
-- Offered from the start: who adds it, hands it over. Nothing when the id is taken, by a message of this cluster too.
insert into fleet.peer_message (tenant_id, message_id, peer_id, caller, address, request, origin, queued, deadline_at, state)
select $1, $2, $3, $4, $5, $6, $7, $8, now() + $9::interval, 'offered'
where not exists (select from fleet.message m where m.tenant_id = $1 and m.message_id = $2)
on conflict do nothing
returning tried_at

-- name: find
select m.tenant_id, m.message_id, m.peer_id, m.caller, m.address, m.request, m.origin, m.queued, m.made_at, m.deadline_at, m.state,
  m.receipt, m.problem, m.tried_at, p.name as peer, p.revoked_at is null as stands, f.bookmark_at as heard_at,
  t.name as tenant
from fleet.peer_message m join fleet.peer p using (tenant_id, peer_id) join fleet.tenant t using (tenant_id)
left join fleet.peer_feed f using (tenant_id, peer_id)
where m.tenant_id = $1 and m.message_id = $2

-- name: newest
select m.tenant_id, m.message_id, m.peer_id, m.caller, m.address, m.request, m.origin, m.queued, m.made_at, m.deadline_at, m.state,
  m.receipt, m.problem, m.tried_at, p.name as peer, p.revoked_at is null as stands, f.bookmark_at as heard_at,
  t.name as tenant
from fleet.peer_message m join fleet.peer p using (tenant_id, peer_id) join fleet.tenant t using (tenant_id)
left join fleet.peer_feed f using (tenant_id, peer_id)
where m.tenant_id = $1 and ($3::uuid is null or m.peer_id = $3 and m.address = $4)
  and (not $5::boolean or m.state in ('waiting', 'offered') or m.state = 'handed' and not m.ended)
order by m.made_at desc limit $2

-- name: by_prefix
select message_id from fleet.peer_message
where tenant_id = $1 and message_id between $2 and $3
order by message_id limit 6

-- name: offer
-- A new attempt, at what is not handed over yet. $3: by its sender, who may try again what failed; else by the outbox, which
-- tries what waits, and what was offered so long ago that whoever offered it is gone.
update fleet.peer_message m set state = 'offered', problem = '', tried_at = clock_timestamp(), queued = m.queued or $4
where m.tenant_id = $1 and m.message_id = $2 and m.deadline_at > now()
  and case when $3::boolean then m.state in ('waiting', 'offered', 'failed')
      else m.state = 'waiting' or m.state = 'offered' and m.tried_at < now() - interval '30 seconds' end
returning m.tried_at

-- name: remaining
select greatest(extract(epoch from deadline_at - clock_timestamp()), 0)::float8 from fleet.peer_message
where tenant_id = $1 and message_id = $2

-- name: handed
-- Whatever was thought before: the peer has it. A receipt only grows.
update fleet.peer_message set state = 'handed', problem = '', receipt = $3, steps = $4, ended = $5
where tenant_id = $1 and message_id = $2 and (state <> 'handed' or steps <= $4)
returning message_id

-- name: not_reached
-- The attempt came to nothing, surely; unless another has begun since.
update fleet.peer_message set state = case when queued then 'waiting' else 'failed' end, problem = $4
where tenant_id = $1 and message_id = $2 and state = 'offered' and tried_at = $3
returning message_id

-- name: refused
update fleet.peer_message set state = 'failed', problem = $4
where tenant_id = $1 and message_id = $2 and state = 'offered' and tried_at = $3
returning message_id

-- name: in_doubt
update fleet.peer_message set problem = $4
where tenant_id = $1 and message_id = $2 and state = 'offered' and tried_at = $3

-- name: forgotten
-- The peer had it, and does not know it any more: nobody can say what became of it.
update fleet.peer_message set state = 'unknown', problem = $3
where tenant_id = $1 and message_id = $2 and state = 'handed'

-- name: cancel
-- $4: the peer has said that it has not got it, and will not take it.
update fleet.peer_message set state = 'cancelled', problem = $3
where tenant_id = $1 and message_id = $2 and (state = 'waiting' or $4::boolean and state in ('offered', 'unknown'))
returning message_id

-- name: due
-- What there is to hand over to each peer that stands, the oldest first.
select m.tenant_id, m.message_id, m.peer_id, m.caller, m.address, m.request, m.origin, m.queued, m.made_at, m.deadline_at, m.state,
  m.receipt, m.problem, m.tried_at, p.name as peer, true as stands, f.bookmark_at as heard_at, t.name as tenant
from fleet.peer p join fleet.tenant t using (tenant_id)
left join fleet.peer_feed f using (tenant_id, peer_id)
cross join lateral (
  select * from fleet.peer_message o
  where o.peer_id = p.peer_id and o.tenant_id = p.tenant_id and o.deadline_at > now() and ($1::uuid is null or o.peer_id = $1)
    and (o.state = 'waiting' or o.state = 'offered' and o.tried_at < now() - interval '30 seconds')
  order by o.made_at limit $2
) m
where p.revoked_at is null
order by m.peer_id, m.made_at

-- name: on_their_way
-- What peers have and have not told the end of, to be asked after: more rarely as time goes by, at least once a minute, and not
-- any more when a minute has passed since the deadline, by which it came to its end there.
select m.tenant_id, m.message_id, m.peer_id, m.caller, m.address, m.request, m.origin, m.queued, m.made_at, m.deadline_at, m.state,
  m.receipt, m.problem, m.tried_at, p.name as peer, true as stands, f.bookmark_at as heard_at, t.name as tenant
from fleet.peer p join fleet.tenant t using (tenant_id)
left join fleet.peer_feed f using (tenant_id, peer_id)
cross join lateral (
  select * from fleet.peer_message o
  where o.peer_id = p.peer_id and o.tenant_id = p.tenant_id and o.state = 'handed' and not o.ended
    and o.deadline_at > now() - interval '1 minute'
    and o.tried_at < now() - least(interval '1 minute', greatest(interval '2 seconds', (o.tried_at - o.made_at) / 2))
  order by o.tried_at limit $1
) m
where p.revoked_at is null
order by m.peer_id, m.tried_at

-- name: asked
update fleet.peer_message set tried_at = clock_timestamp() where tenant_id = $1 and message_id = $2 and state = 'handed'

-- name: expire
-- Past the deadline, or of a pairing that is over: what surely was not handed over is at its end; of what was offered nobody
-- can say any more.
update fleet.peer_message m set
  state = case when m.state = 'offered' then 'unknown' when m.deadline_at <= now() then 'expired' else 'failed' end,
  problem = case when m.state = 'offered' then 'nobody can say whether the peer got it'
            when m.deadline_at <= now() then 'the deadline passed before the peer could be given it'
            else 'the pairing was ended before the peer could be given it' end
from fleet.peer p
where p.tenant_id = m.tenant_id and p.peer_id = m.peer_id and (m.state = 'waiting' and (m.deadline_at <= now() or p.revoked_at is not null)
  or m.state = 'offered' and m.tried_at < now() - interval '30 seconds' and (m.deadline_at <= now() or p.revoked_at is not null))
returning m.tenant_id, m.message_id
