-- name: hold_host
-- Locked before all that hangs on it: the host, then its messages, then its cards.
select host_id, identity_epoch, state = 'revoked' as already from fleet.host
where tenant_id = $1 and name = $2 and state <> 'left'
for update

-- name: revoke_host
-- The link epoch rises, so that nothing of the link it holds is written any more.
update fleet.host set state = 'revoked', revoked_at = now(), revoked_by = $3, revoked_reason = $4,
  link_epoch = link_epoch + 1, linked_replica = null
where tenant_id = $1 and host_id = $2

-- name: end_leases
-- Nobody vouches for its runs any more: what they hold is over now, and the reaper takes it back.
with held as (
  select c.card_id from fleet.card c
  where c.tenant_id = $1 and c.status = 'claimed' and c.lease_until > now() and c.holder_kind = 'agent'
    and c.holder_id in (select a.agent_id from fleet.agent a where a.tenant_id = $1 and a.host_id = $2)
  order by c.card_id
  for no key update
)
update fleet.card c set lease_until = now() from held where c.tenant_id = $1 and c.card_id = held.card_id
returning c.card_id

-- name: hold_operator
select operator_id, identity_epoch, role, revoked_at is not null as already from fleet.operator
where tenant_id = $1 and name = $2
for update

-- name: revoke_operator
update fleet.operator set revoked_at = now(), revoked_by = $3, revoked_reason = $4
where tenant_id = $1 and operator_id = $2

-- name: void_tokens
-- A token made before was meant for who is shut out now; one made after says that somebody may come back.
update fleet.join_token set expires_at = now()
where tenant_id = $1 and kind = $2 and name = $3 and spent_at is null and expires_at > now()
returning token_id

-- name: fallen
-- Which of these identities no longer stand as they did: revoked, left, replaced by a newer epoch, of another role, or gone.
select asked.identity_id
from unnest($1::uuid[], $2::text[], $3::uuid[], $4::bigint[], $5::text[])
  as asked (tenant_id, kind, identity_id, identity_epoch, role)
left join fleet.host h on asked.kind = 'host' and h.tenant_id = asked.tenant_id and h.host_id = asked.identity_id
  and h.identity_epoch = asked.identity_epoch and h.state not in ('left', 'revoked')
left join fleet.operator o on asked.kind = 'operator' and o.tenant_id = asked.tenant_id and o.operator_id = asked.identity_id
  and o.identity_epoch = asked.identity_epoch and o.role = asked.role and o.revoked_at is null
left join fleet.peer p on asked.kind = 'peer' and p.tenant_id = asked.tenant_id and p.peer_id = asked.identity_id
  and p.role = asked.role and p.revoked_at is null
where h.host_id is null and o.operator_id is null and p.peer_id is null
