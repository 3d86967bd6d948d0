-- name: record
insert into fleet.audit
  (audit_id, tenant_id, caller_kind, caller_id, caller_name, peer_address, method, target, request_id, outcome, detail,
   caller_role, caller_host)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11::jsonb, $12, $13)

-- name: list_newest
-- $2: with the rows of no tenant. Each half is read off its index, newest first. $9, $10: the last row of the page before.
select a.*, coalesce(t.name, '') as tenant from (
  (select * from fleet.audit
   where tenant_id = $1 and fleet.audit_matches(audit, $3, $4, $5, $6, $7) and at >= $8 and (at, audit_id) < ($9, $10)
   order by at desc, audit_id desc limit $11)
  union all
  (select * from fleet.audit
   where $2 and tenant_id is null and fleet.audit_matches(audit, $3, $4, $5, $6, $7) and at >= $8
     and (at, audit_id) < ($9, $10)
   order by at desc, audit_id desc limit $11)
) a left join fleet.tenant t using (tenant_id)
order by a.at desc, a.audit_id desc limit $11

-- name: forget_old
delete from fleet.audit where at < now() - $1::interval
