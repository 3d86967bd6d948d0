-- name: lock
-- One apply at a time in a tenant; the lock ends with the transaction.
select pg_advisory_xact_lock(hashtextextended($1::text, 11))

-- name: newest
select version, document::text as document, applied_by, applied_at from fleet.roster
where tenant_id = $1 and ($2::bigint = 0 or version = $2)
order by version desc limit 1

-- name: add
insert into fleet.roster (tenant_id, version, document, applied_by) values ($1, $2, $3::jsonb, $4)
