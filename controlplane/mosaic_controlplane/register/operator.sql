-- name: enrol
-- An operator may be logged in on several machines, so that a new login leaves the epoch as it is. One who was revoked comes
-- back by a token made after that, under a new epoch: no certificate of before is good again.
insert into fleet.operator as o (tenant_id, operator_id, name, role) values ($1, $2, $3, $4)
on conflict (tenant_id, name) do update set role = excluded.role,
  identity_epoch = o.identity_epoch + case when o.revoked_at is null then 0 else 1 end,
  revoked_at = null, revoked_by = '', revoked_reason = ''
returning operator_id, identity_epoch

-- name: standing
select t.tenant_id, o.name, o.role, o.identity_epoch, o.revoked_at is not null as revoked
from fleet.operator o join fleet.tenant t using (tenant_id)
where t.name = $1 and o.operator_id = $2

-- name: list_operators
select o.operator_id, o.name, o.role, o.made_at, o.revoked_at is not null as revoked, t.name as tenant
from fleet.operator o join fleet.tenant t using (tenant_id)
where o.tenant_id = $1 order by o.name

-- name: hold_admins
-- In one order, so that two who each take the other's role away cannot both succeed.
select name from fleet.operator where tenant_id = $1 and role = 'admin' and revoked_at is null order by operator_id for update

-- name: change_role
update fleet.operator set role = $3 where tenant_id = $1 and name = $2 and revoked_at is null returning operator_id
