-- name: drain
-- Returns nothing when there is no such host, or it has left.
update fleet.host set draining_since = coalesce(draining_since, now()),
  draining_by = case when draining_since is null then $3 else draining_by end
where tenant_id = $1 and name = $2 and state not in ('left', 'revoked')
returning host_id

-- name: undrain
update fleet.host set draining_since = null, draining_by = ''
where tenant_id = $1 and name = $2 and state not in ('left', 'revoked')
returning host_id

-- name: is_draining
select draining_since is not null from fleet.host where tenant_id = $1 and host_id = $2

-- name: held_by_host
select a.name as agent, c.card_id, c.title
from fleet.agent a join fleet.card c on c.tenant_id = a.tenant_id and c.holder_id = a.agent_id
where a.tenant_id = $1 and a.host_id = $2 and c.status = 'claimed' and c.holder_kind = 'agent'
order by a.name, c.card_id
limit 200

-- name: lock
select host_id, state, (select count(*) from fleet.agent a
    where a.tenant_id = h.tenant_id and a.host_id = h.host_id and a.removed_at is null) as seats
from fleet.host h where h.tenant_id = $1 and h.name = $2
for no key update of h

-- name: leave
-- Its link is superseded by none, and its certificates are of an older identity.
update fleet.host set state = 'left', link_epoch = link_epoch + 1, identity_epoch = identity_epoch + 1,
  linked_replica = null, draining_since = null, draining_by = '', link_problem = ''
where tenant_id = $1 and host_id = $2

-- name: lost_policy
select lost_after, lost_claims from fleet.tenant where tenant_id = $1

-- name: set_lost_policy
-- A host that is silent now is judged by the new time too, from its last beat.
with policy as (
  update fleet.tenant set lost_after = coalesce($2, lost_after), lost_claims = coalesce($3, lost_claims)
  where tenant_id = $1
  returning tenant_id, lost_after
), known as (
  select h.host_id from fleet.host h where h.tenant_id = $1 order by h.host_id for no key update of h
)
update fleet.host h set lost_after = p.lost_after,
  lease_until = case when h.lease_until is null then null
    else coalesce(h.last_beat_at, now()) + greatest(p.lost_after, 4 * h.beat_interval) end
from policy p, known k where h.tenant_id = p.tenant_id and h.host_id = k.host_id and $2::interval is not null
