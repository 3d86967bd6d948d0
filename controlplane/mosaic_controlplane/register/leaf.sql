-- name: add
insert into fleet.leaf (tenant_id, serial, kind, identity_id, identity_epoch, authority_id, not_after)
values ($1, $2, $3, $4, $5, $6, $7)

-- name: replace
update fleet.leaf set replaced_at = now() where tenant_id = $1 and serial = $2 and replaced_at is null

-- name: hold_host_standing
-- Who renews must still stand when the new leaf is written: a revocation waits for that, or that for a revocation.
select host_id from fleet.host
where tenant_id = $1 and host_id = $2 and identity_epoch = $3 and state not in ('left', 'revoked')
for share

-- name: hold_operator_standing
select operator_id from fleet.operator
where tenant_id = $1 and operator_id = $2 and identity_epoch = $3 and revoked_at is null
for share

-- name: valid_of
select serial, issued_at, not_after, authority_id, replaced_at is not null as replaced from fleet.leaf
where tenant_id = $1 and identity_id = $2 and identity_epoch = $3 and not_after > now()
order by issued_at desc
limit 100

-- name: by_authority
-- What still hangs on each root: leaves in use (valid, not replaced, of those who stand), and the last one's end.
select l.authority_id, count(*)::int as leaves, max(l.not_after) as last_end
from fleet.leaf l
left join fleet.host h on l.kind = 'host' and h.tenant_id = l.tenant_id and h.host_id = l.identity_id
  and h.identity_epoch = l.identity_epoch and h.state not in ('left', 'revoked')
left join fleet.operator o on l.kind = 'operator' and o.tenant_id = l.tenant_id and o.operator_id = l.identity_id
  and o.identity_epoch = l.identity_epoch and o.revoked_at is null
where l.not_after > now() and l.replaced_at is null and (h.host_id is not null or o.operator_id is not null)
group by l.authority_id

-- name: untold
-- Who holds a leaf from before a root was made, and so may not know that root: by name, those who can wait longest first.
select l.kind, coalesce(h.name, o.name) as name, t.name as tenant, l.not_after
from fleet.leaf l join fleet.tenant t using (tenant_id)
left join fleet.host h on l.kind = 'host' and h.tenant_id = l.tenant_id and h.host_id = l.identity_id
  and h.identity_epoch = l.identity_epoch and h.state not in ('left', 'revoked')
left join fleet.operator o on l.kind = 'operator' and o.tenant_id = l.tenant_id and o.operator_id = l.identity_id
  and o.identity_epoch = l.identity_epoch and o.revoked_at is null
where l.issued_at < (select made_at from fleet.authority where authority_id = $1)
  and l.not_after > now() and l.replaced_at is null and (h.host_id is not null or o.operator_id is not null)
order by l.not_after desc
limit 1000

-- name: old_tokens
-- Unused tokens from before a root was made: whoever joins with one does not know that root.
select count(*)::int from fleet.join_token
where made_at < (select made_at from fleet.authority where authority_id = $1) and spent_at is null and expires_at > now()

-- name: forget_old
delete from fleet.leaf where not_after < now() - interval '7 days'
