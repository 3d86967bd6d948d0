-- name: position
-- The cursor from which nothing that is not yet visible can be missed: every change at or after it is served later.
-- held_back: changes have committed that are not served yet, since an older transaction is still open; nobody tells when that
-- one ends without a change of its own.
select pg_snapshot_xmin(pg_current_snapshot())::text as xid,
  exists (select from fleet.change where tenant_id = $1 and xid >= pg_snapshot_xmin(pg_current_snapshot())) as held_back

-- name: bounds
-- Below xmin nothing is open any more; at xmax nothing has begun.
select pg_snapshot_xmin(now.taken)::text as xmin, pg_snapshot_xmax(now.taken)::text as xmax
from (select pg_current_snapshot() as taken) now

-- name: snapshot
select pg_current_snapshot()::text

-- name: after
-- Changes after the cursor that are certain to be complete: all transactions below the snapshot's xmin have ended. $5: the
-- snapshot in which the watcher has read the rows; what was visible in it is not told again.
select xid::text as xid, seq, kind, id
from fleet.change
where (xid, seq) > ($1::text::xid8, $2::bigint) and xid < pg_snapshot_xmin(pg_current_snapshot()) and tenant_id = $3
  and ($5::text is null or not pg_visible_in_snapshot(xid, $5::text::pg_snapshot))
-- By the numbers: `xid` alone would be the text above, in which 10 comes before 9, and no index is in that order.
order by change.xid, change.seq
limit $4

-- name: forgotten_up_to
select changes_forgotten_up_to::text from fleet.cluster

-- name: forget_old
-- So many at once as take well under the time a statement has: what is left goes the next time.
with old as (
  select tenant_id, xid, seq from fleet.change where at < now() - $1::interval order by at limit $2 for update skip locked
), forgotten as (
  delete from fleet.change c using old
  where c.tenant_id = old.tenant_id and c.xid = old.xid and c.seq = old.seq returning c.xid
), counted as (
  select max(xid) as xid from forgotten
)
update fleet.cluster set changes_forgotten_up_to = greatest(changes_forgotten_up_to, newest.xid)
from counted newest
where newest.xid is not null
returning (select count(*) from forgotten)
