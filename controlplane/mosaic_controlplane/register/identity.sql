-- name: list_identities
with known as (
  select h.tenant_id, 'host' as kind, h.host_id as identity_id, h.name, '' as role, h.identity_epoch, h.joined_at as made_at,
    case when h.state in ('revoked', 'left') then h.state else '' end as ended, h.revoked_at, h.revoked_by, h.revoked_reason
  from fleet.host h where h.tenant_id = $1 and $2 in ('', 'host') and ($3 = '' or h.name = $3)
  union all
  select o.tenant_id, 'operator', o.operator_id, o.name, o.role, o.identity_epoch, o.made_at,
    case when o.revoked_at is not null then 'revoked' else '' end, o.revoked_at, o.revoked_by, o.revoked_reason
  from fleet.operator o where o.tenant_id = $1 and $2 in ('', 'operator') and ($3 = '' or o.name = $3)
)
select k.kind, k.identity_id, k.name, k.role, k.identity_epoch, k.made_at, k.revoked_at, k.revoked_by, k.revoked_reason,
  t.name as tenant, now() as at, newest.not_after as valid_until,
  case when k.ended <> '' then k.ended when newest.not_after <= now() then 'expired' else 'good' end as state
from known k join fleet.tenant t using (tenant_id)
left join lateral (
  select max(l.not_after) as not_after from fleet.leaf l
  where l.tenant_id = k.tenant_id and l.identity_id = k.identity_id and l.identity_epoch = k.identity_epoch
) newest on true
order by k.kind, k.name
