-- Other clusters. Every block that returns a peer returns the same columns.

-- name: add
insert into fleet.peer (tenant_id, peer_id, name, trust_domain, cluster, their_tenant, role, bundle, addresses,
  enrol_addresses, paired_by)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
on conflict do nothing
returning peer_id

-- name: add_feed
insert into fleet.peer_feed (tenant_id, peer_id) values ($1, $2)

-- name: forget_tombstones
-- Who is paired under a name takes the place of those who were before.
delete from fleet.peer where tenant_id = $1 and name = $2 and revoked_at is not null and peer_id <> $3

-- name: find
select p.tenant_id, t.name as tenant, p.peer_id, p.name, p.trust_domain, p.cluster, p.their_tenant, p.role, p.bundle,
  p.addresses, p.enrol_addresses, p.paired_at, p.paired_by, p.revoked_at, p.revoked_by, p.revoked_reason, p.told_at,
  f.bookmark_at as heard_at
from fleet.peer p join fleet.tenant t using (tenant_id) left join fleet.peer_feed f using (tenant_id, peer_id)
where p.peer_id = $1

-- name: named
-- The one that stands comes first, then the newest tombstone. $2 is a name, or an id in full.
select p.tenant_id, t.name as tenant, p.peer_id, p.name, p.trust_domain, p.cluster, p.their_tenant, p.role, p.bundle,
  p.addresses, p.enrol_addresses, p.paired_at, p.paired_by, p.revoked_at, p.revoked_by, p.revoked_reason, p.told_at,
  f.bookmark_at as heard_at
from fleet.peer p join fleet.tenant t using (tenant_id) left join fleet.peer_feed f using (tenant_id, peer_id)
where p.tenant_id = $1 and (p.name = $2 or p.peer_id::text = $2)
order by p.revoked_at is not null, p.revoked_at desc
limit 1

-- name: of_trust_domain
select p.tenant_id, t.name as tenant, p.peer_id, p.name, p.trust_domain, p.cluster, p.their_tenant, p.role, p.bundle,
  p.addresses, p.enrol_addresses, p.paired_at, p.paired_by, p.revoked_at, p.revoked_by, p.revoked_reason, p.told_at,
  f.bookmark_at as heard_at
from fleet.peer p join fleet.tenant t using (tenant_id) left join fleet.peer_feed f using (tenant_id, peer_id)
where p.tenant_id = $1 and p.trust_domain = $2 and p.revoked_at is null

-- name: list_standing
select p.tenant_id, t.name as tenant, p.peer_id, p.name, p.trust_domain, p.cluster, p.their_tenant, p.role, p.bundle,
  p.addresses, p.enrol_addresses, p.paired_at, p.paired_by, p.revoked_at, p.revoked_by, p.revoked_reason, p.told_at,
  f.bookmark_at as heard_at
from fleet.peer p join fleet.tenant t using (tenant_id) left join fleet.peer_feed f using (tenant_id, peer_id)
where p.revoked_at is null
order by p.peer_id

-- name: list_of_tenant
select p.tenant_id, t.name as tenant, p.peer_id, p.name, p.trust_domain, p.cluster, p.their_tenant, p.role, p.bundle,
  p.addresses, p.enrol_addresses, p.paired_at, p.paired_by, p.revoked_at, p.revoked_by, p.revoked_reason, p.told_at,
  f.bookmark_at as heard_at
from fleet.peer p join fleet.tenant t using (tenant_id) left join fleet.peer_feed f using (tenant_id, peer_id)
where p.tenant_id = $1
order by p.name, p.revoked_at is not null, p.revoked_at desc, p.peer_id

-- name: feeds
-- What is known of a tenant's peers beside the pairing, and how many of its agents each shows.
select f.peer_id, fleet.peer_health(f.bookmark_at) as health, f.problem, f.version, f.granted, f.skipped::text as skipped, (
  select count(*)::int from fleet.peer_row r
  where r.tenant_id = f.tenant_id and r.peer_id = f.peer_id and r.kind = 'agent' and r.removed_at is null
) as agents
from fleet.peer_feed f where f.tenant_id = $1

-- name: hold
-- Locked until the transaction ends: a revocation waits for whoever writes on the strength of a standing one.
select peer_id from fleet.peer where tenant_id = $1 and peer_id = $2 and revoked_at is null for update

-- name: refresh
-- Written only when it is news.
update fleet.peer set bundle = $3, addresses = $4, enrol_addresses = $5
where tenant_id = $1 and peer_id = $2 and revoked_at is null
  and (bundle, addresses, enrol_addresses) is distinct from ($3, $4::text[], $5::text[])
returning peer_id

-- name: change_role
update fleet.peer set role = $3 where tenant_id = $1 and peer_id = $2 and revoked_at is null returning peer_id

-- name: grants_changed
update fleet.peer set grants_changed_at = clock_timestamp() where tenant_id = $1 and peer_id = $2

-- name: revoke
update fleet.peer set revoked_at = now(), revoked_by = $3, revoked_reason = $4, bundle = '', addresses = '{}',
  enrol_addresses = '{}', grants_changed_at = clock_timestamp()
where tenant_id = $1 and peer_id = $2 and revoked_at is null
returning peer_id

-- name: forget_rows
delete from fleet.peer_row where tenant_id = $1 and peer_id = $2

-- name: forget_feed
delete from fleet.peer_feed where tenant_id = $1 and peer_id = $2

-- name: fail_messages
-- What waited for it goes nowhere any more; of what was offered and not answered nobody can say.
update fleet.peer_message set state = case when state = 'waiting' then 'failed' else 'unknown' end, problem = $3
where tenant_id = $1 and peer_id = $2 and state in ('waiting', 'offered')

-- name: told
update fleet.peer set told_at = now() where tenant_id = $1 and peer_id = $2

-- name: remove
delete from fleet.peer where tenant_id = $1 and peer_id = $2 and revoked_at is not null returning peer_id

-- name: untold
-- Who was paired before a root was made, and has not been connected for half a minute since: that is when it is told.
select p.name from fleet.peer p left join fleet.peer_feed f using (tenant_id, peer_id)
cross join (select made_at from fleet.authority where authority_id = $1) a
where p.revoked_at is null and p.paired_at < a.made_at
  and coalesce(f.bookmark_at, '-infinity') < a.made_at + interval '30 seconds'
order by p.name

-- name: void_tokens
update fleet.join_token set expires_at = now()
where tenant_id = $1 and kind = 'peer' and name = $2 and spent_at is null and expires_at > now()
returning token_id
