-- name: lock
-- Two calls with one request id take turns; the lock ends with the transaction.
select pg_advisory_xact_lock(hashtextextended($1::text || $2::text || $3::text, 7))

-- name: find
select method, payload_digest, reply from fleet.request where tenant_id = $1 and caller = $2 and request_id = $3

-- name: keep
insert into fleet.request (tenant_id, caller, request_id, method, payload_digest, reply) values ($1, $2, $3, $4, $5, $6)

-- name: forget_old
delete from fleet.request where made_at < now() - interval '24 hours'
