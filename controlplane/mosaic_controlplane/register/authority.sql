-- name: list_authorities
-- The one that signs first: whichever began to last. The others are still trusted.
select authority_id, certificate, encrypted_key, made_at, signs_since, not_after from fleet.authority
where retired_at is null and not_after > now()
order by signs_since desc nulls last, authority_id desc

-- name: add
insert into fleet.authority (authority_id, certificate, encrypted_key, not_after, signs_since)
values ($1, $2, $3, $4, case when $5 then now() end)

-- name: lock_change
-- Two who change the roots take turns. Held until the transaction ends.
select pg_advisory_xact_lock(hashtext('fleet.authority'))

-- name: let_sign
update fleet.authority set signs_since = now() where authority_id = $1 and retired_at is null

-- name: retire
update fleet.authority set retired_at = now() where authority_id = any($1::uuid[]) and retired_at is null

-- name: seconds_until_known
-- Replicas that serve have read what became of a root by then: they look every 5 s, and refuse calls after 5 s without.
select extract(epoch from greatest(made_at, signs_since) + interval '10 seconds' - now())::float8
from fleet.authority where authority_id = $1
