-- How often hosts beat, for the whole cluster: slower as it grows (mesh/pace.py).
alter table fleet.cluster add column beat_interval interval not null default '5 seconds';

-- When a host of the tenant is lost, and what becomes of what its agents have claimed.
alter table fleet.tenant
  add column lost_after interval not null default '60 seconds' check (lost_after >= interval '1 second'),
  add column lost_claims text not null default 'lease' check (lost_claims in ('lease', 'hold', 'release'));

-- The version of the register that a replica is made for: an older one that lives holds back what would take from it.
alter table fleet.replica add column register_version integer not null default 0;

alter table fleet.host
  add column draining_since timestamptz,
  add column draining_by text not null default '',
  add column link_problem text not null default '';

create trigger host_link_changed after update on fleet.host
  for each row when (old.link_epoch = new.link_epoch
    and (old.linked_replica, old.draining_since, old.link_problem)
      is distinct from (new.linked_replica, new.draining_since, new.link_problem))
  execute function fleet.record_host_change();

-- As it was, but for agents on a host that is being drained.
create or replace function fleet.take_cards(
  of_tenant uuid, picked text[], requests uuid[], places integer[], runs uuid[], kinds text[], holders uuid[],
  names text[], leases interval[]
) returns table (request_id uuid, place integer, card fleet.card)
language plpgsql set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set enable_sort = on
set jit = off set plan_cache_mode = force_generic_plan as $$
begin
  if cardinality(picked) = 0 then
    return;
  end if;
  return query
  with wanted as (
    select w.* from unnest(picked, requests, places, runs, kinds, holders, names, leases)
      as w (card_id, request_id, place, run_id, kind, holder_id, name, lease)
    where w.card_id is not null
      -- An agent on a host that is being drained takes nothing new.
      and (w.kind <> 'agent' or (
        select h.draining_since from fleet.host h where h.tenant_id = of_tenant and h.host_id = (
          select a.host_id from fleet.agent a where a.tenant_id = of_tenant and a.agent_id = w.holder_id)) is null)
  ), noted as (
    insert into fleet.card_event (tenant_id, card_id, kind, status, fence, actor_kind, actor_id, actor_name, run_id, waited,
      request_id, request_place)
    select of_tenant, c.card_id, 'claimed', 'claimed', c.fence + 1, w.kind, w.holder_id, w.name, w.run_id,
      now() - c.ready_since, w.request_id, w.place
    from wanted w cross join lateral (
      select k.card_id, k.fence, k.ready_since from fleet.card k
      where k.tenant_id = of_tenant and k.card_id = w.card_id offset 0
    ) c
    order by w.request_id, w.place
    on conflict do nothing
    returning card_event.card_id, card_event.request_id, card_event.request_place
  )
  update fleet.card c set status = 'claimed', fence = c.fence + 1, attempts = c.attempts + 1, expired = false, reason = '',
    run_id = w.run_id, holder_kind = w.kind, holder_id = w.holder_id, holder_name = w.name, claimed_at = now(),
    lease = w.lease, lease_until = now() + least(w.lease, c.time_limit), renew_until = now() + c.time_limit,
    ready_since = null, changed_at = now()
  from wanted w join noted n on n.request_id = w.request_id and n.request_place = w.place
  where c.tenant_id = of_tenant and c.card_id = any(picked) and c.card_id = w.card_id
  returning w.request_id, w.place, c;
end $$;
