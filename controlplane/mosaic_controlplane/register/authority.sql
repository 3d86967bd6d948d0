-- name: list_authorities
-- The newest signs; the others are still trusted.
select authority_id, certificate, encrypted_key from fleet.authority
where retired_at is null and not_after > now()
order by authority_id desc

-- name: add
insert into fleet.authority (authority_id, certificate, encrypted_key, not_after) values ($1, $2, $3, $4)
