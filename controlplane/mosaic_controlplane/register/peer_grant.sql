-- name: add
insert into fleet.peer_grant (tenant_id, grant_id, peer_id, kind, selector, fields, most, expires_at, made_by)
values ($1, $2, $3, $4, $5, $6, $7, now() + $8::interval, $9)
returning grant_id, peer_id, kind, selector, fields, most, expires_at, made_by, made_at

-- name: active
-- $3: kinds; expired ones are not active, whoever has looked since.
select grant_id, peer_id, kind, selector, fields, most, expires_at, made_by, made_at from fleet.peer_grant
where tenant_id = $1 and peer_id = $2 and kind = any($3::text[]) and ended_at is null and expires_at > now()
order by kind, grant_id

-- name: active_of_tenant
select grant_id, peer_id, kind, selector, fields, most, expires_at, made_by, made_at from fleet.peer_grant
where tenant_id = $1 and ended_at is null and expires_at > now()
order by peer_id, kind, grant_id

-- name: end_some
update fleet.peer_grant set ended_at = now(), ended_by = $4
where tenant_id = $1 and peer_id = $2 and grant_id = any($3::uuid[]) and ended_at is null
returning grant_id

-- name: end_all
update fleet.peer_grant set ended_at = now(), ended_by = $3
where tenant_id = $1 and peer_id = $2 and ended_at is null
