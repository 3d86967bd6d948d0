-- name: find_by_name
select tenant_id, name, paused from fleet.tenant where name = $1

-- name: add
insert into fleet.tenant (tenant_id, name) values ($1, $2)
on conflict (name) do nothing

-- name: make
insert into fleet.tenant (tenant_id, name) values ($1, $2)
on conflict (name) do nothing
returning tenant_id

-- name: list_tenants
-- $1: the only one to tell of; null: all.
select t.tenant_id, t.name, t.made_at,
  (select count(*) from fleet.operator o where o.tenant_id = t.tenant_id) as operators,
  (select count(*) from fleet.host h where h.tenant_id = t.tenant_id) as hosts
from fleet.tenant t where $1::uuid is null or t.tenant_id = $1 order by t.name

-- name: linked_hosts
select name from fleet.host where tenant_id = $1 and state in ('live', 'stale') order by name

-- name: standing_peers
select name from fleet.peer where tenant_id = $1 and revoked_at is null order by name

-- name: remove
select name, removed from fleet.remove_tenant($1) where removed > 0
