-- name: position
-- The cursor from which nothing that is not yet visible can be missed: every change at or after it is served later.
select pg_snapshot_xmin(pg_current_snapshot())::text as xid

-- name: after
-- Changes after the cursor that are certain to be complete: all transactions below the snapshot's xmin have ended.
select xid::text as xid, seq, kind, id
from fleet.change
where (xid, seq) > ($1::text::xid8, $2::bigint) and xid < pg_snapshot_xmin(pg_current_snapshot()) and tenant_id = $3
order by xid, seq
limit $4

-- name: forgotten_up_to
select changes_forgotten_up_to::text from fleet.cluster

-- name: forget_old
with forgotten as (
  delete from fleet.change where at < now() - $1::interval returning xid
)
update fleet.cluster set changes_forgotten_up_to = greatest(changes_forgotten_up_to, newest.xid)
from (select max(xid) as xid from forgotten) newest
where newest.xid is not null
