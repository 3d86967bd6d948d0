-- What other clusters show of theirs: rows of the owner's, in tables of their own.

-- name: put
-- Rows as the owner has them now. What is the same already is left alone, and tells no watcher anything.
insert into fleet.peer_row as known (tenant_id, peer_id, kind, id, content)
select $1, $2, kind, id, content from unnest($3::text[], $4::uuid[], $5::bytea[]) as told (kind, id, content)
on conflict (tenant_id, peer_id, kind, id) do update set content = excluded.content, removed_at = null
where known.content <> excluded.content or known.removed_at is not null

-- name: drop_rows
-- Gone there, or not shared any more: nothing is kept but that it was, for watchers that have yet to hear of it.
update fleet.peer_row known set removed_at = now(), content = ''
from unnest($3::text[], $4::uuid[]) as told (kind, id)
where known.tenant_id = $1 and known.peer_id = $2 and known.kind = told.kind and known.id = told.id
  and known.removed_at is null

-- name: make_arriving
-- A snapshot on its way in: of this session alone, and gone with it.
create temporary table if not exists arriving (kind text not null, id uuid not null, content bytea not null)

-- name: empty_arriving
truncate arriving

-- name: take_arrived
insert into fleet.peer_row as known (tenant_id, peer_id, kind, id, content)
select distinct on (kind, id) $1::uuid, $2::uuid, kind, id, content from arriving
on conflict (tenant_id, peer_id, kind, id) do update set content = excluded.content, removed_at = null
where known.content <> excluded.content or known.removed_at is not null

-- name: drop_others
update fleet.peer_row known set removed_at = now(), content = ''
where known.tenant_id = $1 and known.peer_id = $2 and known.removed_at is null
  and not exists (select from arriving where arriving.kind = known.kind and arriving.id = known.id)

-- name: ids
select kind, id from fleet.peer_row where tenant_id = $1 and peer_id = $2 and removed_at is null and (kind, id) > ($3, $4)
order by kind, id limit $5

-- name: of_peers
-- With how old they are: health is judged as of now.
select r.peer_id, t.name as tenant, p.name as cluster, fleet.peer_health(f.bookmark_at) as health, f.bookmark_at as heard_at,
  r.kind, r.id, r.content, r.removed_at is not null as removed
from fleet.peer_row r join fleet.peer p using (tenant_id, peer_id) join fleet.peer_feed f using (tenant_id, peer_id)
join fleet.tenant t on t.tenant_id = r.tenant_id
where r.tenant_id = $1 and r.peer_id = any($2::uuid[]) and r.removed_at is null and p.revoked_at is null
order by p.name, r.kind, r.id

-- name: by_ids
select r.peer_id, t.name as tenant, p.name as cluster, fleet.peer_health(f.bookmark_at) as health, f.bookmark_at as heard_at,
  r.kind, r.id, r.content, r.removed_at is not null as removed
from fleet.peer_row r join fleet.peer p using (tenant_id, peer_id) join fleet.peer_feed f using (tenant_id, peer_id)
join fleet.tenant t on t.tenant_id = r.tenant_id
where r.tenant_id = $1 and r.id = any($2::uuid[]) and p.revoked_at is null

-- name: sizes
-- How many bytes each peer's rows have, so that nobody reads more than a listing may hold.
select peer_id, sum(length(content) + 64)::bigint as bytes from fleet.peer_row
where tenant_id = $1 and removed_at is null
group by peer_id

-- name: forget_removed
-- After the changes that tell of them have been forgotten.
delete from fleet.peer_row where removed_at < now() - $1::interval
