-- name: find_by_name
select tenant_id, name, paused from fleet.tenant where name = $1

-- name: add
insert into fleet.tenant (tenant_id, name) values ($1, $2)
on conflict (name) do nothing
