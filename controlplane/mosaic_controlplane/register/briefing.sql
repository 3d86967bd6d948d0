-- name: get
select content from fleet.briefing where tenant_id = $1

-- name: replace
-- Under the roster's lock: one apply at a time in a tenant.
insert into fleet.briefing (tenant_id, content) values ($1, $2)
on conflict (tenant_id) do update set content = excluded.content
