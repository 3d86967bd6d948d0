-- name: add
insert into fleet.join_token (tenant_id, token_id, kind, name, role, secret_hash, expires_at, made_by)
values ($1, $2, $3, $4, $5, $6, now() + $7, $8)
returning expires_at

-- name: hold_by_secret
-- The lock makes two joiners with one token take turns: the second one finds it spent.
select j.tenant_id, j.token_id, j.kind, j.name, j.role, j.secret_hash, j.made_by, j.spent_at, j.spent_key_hash,
  j.spent_certificate, j.expires_at, j.expires_at <= now() as expired, t.name as tenant
from fleet.join_token j join fleet.tenant t using (tenant_id)
where j.secret_hash = $1
for update of j

-- name: spend
update fleet.join_token set spent_at = now(), spent_key_hash = $3, spent_certificate = $4
where tenant_id = $1 and token_id = $2 and spent_at is null
returning token_id

-- name: forget_old
-- Long after its end a token only says what the audit says too.
delete from fleet.join_token where expires_at < now() - interval '7 days'
