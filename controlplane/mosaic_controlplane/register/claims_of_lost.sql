-- What becomes of the claims of agents whose host is not heard of: `lost_claims` of its tenant. Leases alone are moved here;
-- only the reaper takes a card back. Whoever calls this has locked the hosts.

-- name: hold
-- Of hosts that fell silent, where claims are held: each is kept until its own limit.
with held as (
  select c.tenant_id, c.card_id
  from unnest($1::uuid[], $2::uuid[]) as silent (tenant_id, host_id)
  join fleet.tenant t on t.tenant_id = silent.tenant_id and t.lost_claims = 'hold'
  join fleet.agent a on a.tenant_id = silent.tenant_id and a.host_id = silent.host_id
  join fleet.card c on c.tenant_id = a.tenant_id and c.holder_id = a.agent_id
  where c.status = 'claimed' and c.holder_kind = 'agent' and c.lease_until >= now()
  order by c.tenant_id, c.card_id
  for no key update of c
)
update fleet.card c set lease_until = greatest(c.lease_until, c.renew_until)
from held where c.tenant_id = held.tenant_id and c.card_id = held.card_id and c.status = 'claimed'

-- name: release
-- Of hosts that are lost, where claims are released: each is over now.
with held as (
  select c.tenant_id, c.card_id
  from unnest($1::uuid[], $2::uuid[]) as lost (tenant_id, host_id)
  join fleet.tenant t on t.tenant_id = lost.tenant_id and t.lost_claims = 'release'
  join fleet.agent a on a.tenant_id = lost.tenant_id and a.host_id = lost.host_id
  join fleet.card c on c.tenant_id = a.tenant_id and c.holder_id = a.agent_id
  where c.status = 'claimed' and c.holder_kind = 'agent'
  order by c.tenant_id, c.card_id
  for no key update of c
)
update fleet.card c set lease_until = least(c.lease_until, now())
from held where c.tenant_id = held.tenant_id and c.card_id = held.card_id and c.status = 'claimed'

-- name: recall
-- The host is back: what was held for it is an ordinary lease again, which it renews.
with held as (
  select c.card_id from fleet.agent a
  join fleet.card c on c.tenant_id = a.tenant_id and c.holder_id = a.agent_id
  where a.tenant_id = $1 and a.host_id = $2 and c.status = 'claimed' and c.holder_kind = 'agent'
    and c.lease_until > now() + c.lease
  order by c.card_id
  for no key update of c
)
update fleet.card c set lease_until = now() + c.lease
from held where c.tenant_id = $1 and c.card_id = held.card_id and c.status = 'claimed'
