-- name: arrive
insert into fleet.replica (replica_id, address, version, register_version, peer_address, enrol_address)
values ($1, $2, $3, $4, $5, $6)

-- name: beat
update fleet.replica set seen_at = now() where replica_id = $1 returning replica_id

-- name: leave
delete from fleet.replica where replica_id = $1

-- name: forget_dead
delete from fleet.replica where seen_at < now() - interval '60 seconds'

-- name: set_watching
update fleet.replica set watching = $2 where replica_id = $1

-- name: addresses
select address from fleet.replica where seen_at > now() - interval '15 seconds' order by replica_id

-- name: doors
select peer_address, enrol_address from fleet.replica where seen_at > now() - interval '15 seconds' order by replica_id

-- name: versions
select distinct version from fleet.replica where seen_at > now() - interval '15 seconds' order by version

-- name: register_version
select max(version) from fleet.migration

-- name: holder_of_link
-- Where a host is linked, when that replica was heard of within 15 s.
select r.replica_id, r.address from fleet.host h join fleet.replica r on r.replica_id = h.linked_replica
where h.tenant_id = $1 and h.host_id = $2 and r.seen_at > now() - interval '15 seconds'

-- name: notify
-- One statement for all keys gathered. A host's key goes to the replica that holds its link, any other key to the replicas
-- where somebody watches. Runs after the write has committed: a watcher sets its flag before its first scan, so that a change
-- is either in that scan or told here.
select pg_notify('mosaic_' || replace(r.replica_id::text, '-', ''), k.key)
from unnest($1::text[], $2::uuid[], $3::uuid[]) as k (key, tenant_id, host_id)
join fleet.replica r
  on case when k.host_id is null then r.watching
     else r.replica_id = (select h.linked_replica from fleet.host h
                          where h.tenant_id = k.tenant_id and h.host_id = k.host_id) end

-- name: database_time
select now()
