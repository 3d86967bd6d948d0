-- name: lock_making
-- Replicas that start together make the cluster once. Held until the transaction ends.
select pg_advisory_xact_lock(hashtext('fleet.cluster'))

-- name: find
select trust_domain, alias, register_epoch from fleet.cluster

-- name: make
insert into fleet.cluster (trust_domain, alias, register_epoch) values ($1, $2, $3)
returning trust_domain, alias, register_epoch
