-- name: figures
-- What metrics tell of the rows that are open, over all tenants.
select 'hosts' as name, state as label, count(*)::float8 as value from fleet.host group by state
union all
select 'agents', state, count(*) from fleet.agent where removed_at is null group by state
union all
select 'messages', step, count(*) from fleet.message
where step in ('queued', 'dispatched', 'typed') group by step
union all
select 'message_age', step, extract(epoch from now() - min(created_at)) from fleet.message
where step in ('queued', 'dispatched', 'typed') group by step
union all
select 'cards', status, count(*) from fleet.card where status not in ('done', 'cancelled') group by status
union all
select 'leases', case when lease_until > now() then 'live' else 'over' end, count(*) from fleet.card
where status = 'claimed' group by 2
union all
select 'peers', fleet.peer_health(f.bookmark_at), count(*)
from fleet.peer p join fleet.peer_feed f using (tenant_id, peer_id) where p.revoked_at is null group by 2
union all
select 'peer_age', fleet.peer_health(f.bookmark_at), extract(epoch from now() - min(coalesce(f.bookmark_at, p.paired_at)))
from fleet.peer p join fleet.peer_feed f using (tenant_id, peer_id) where p.revoked_at is null group by 2
union all
select 'outbox', state, count(*) from fleet.peer_message where state in ('waiting', 'offered') group by state
union all
select 'outbox_age', state, extract(epoch from now() - min(made_at)) from fleet.peer_message
where state in ('waiting', 'offered') group by state
