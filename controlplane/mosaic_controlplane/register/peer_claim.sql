-- Cards that a peer may claim, and those that it holds.

-- name: claimable
-- The best ready cards that a grant lets a peer take: its patterns are regular expressions, null for any. Locked, so that none
-- is taken by another claim meanwhile; what another has locked is passed over. $2: '' for any, else the id.
select c.card_id, -c.priority as rank, c.seq from fleet.card c
where c.tenant_id = $1 and c.status = 'ready' and c.unmet = 0 and ($2 = '' or c.card_id = $2)
  and ($3::text[] is null or c.required_class = any($3)) and c.labels @> $4::text[]
  and ($5::text[] is null or c.required_class ~ any($5)) and ($6::text[] is null or c.mission ~ any($6))
  and not exists (select from unnest($7::text[]) as needed (pattern)
                  where not exists (select from unnest(c.labels) as label where label ~ needed.pattern))
  and not (select t.paused from fleet.tenant t where t.tenant_id = $1)
order by -c.priority, c.seq
limit $8
for no key update of c skip locked

-- name: held
-- How many cards that the grant is about the peer holds.
select count(*) from fleet.card c
where c.tenant_id = $1 and c.holder_id = $2 and c.holder_kind = 'peer' and c.status = 'claimed'
  and ($3::text[] is null or c.required_class ~ any($3)) and ($4::text[] is null or c.mission ~ any($4))
  and not exists (select from unnest($5::text[]) as needed (pattern)
                  where not exists (select from unnest(c.labels) as label where label ~ needed.pattern))

-- name: covers
-- Whether a grant is about a card.
select exists (select from fleet.card c
  where c.tenant_id = $1 and c.card_id = $2
    and ($3::text[] is null or c.required_class ~ any($3)) and ($4::text[] is null or c.mission ~ any($4))
    and not exists (select from unnest($5::text[]) as needed (pattern)
                    where not exists (select from unnest(c.labels) as label where label ~ needed.pattern)))

-- name: take
select taken.request_id, taken.place, taken.card
from fleet.take_cards($1, $2::text[], $3::uuid[], $4::integer[], $5::uuid[], $6::text[], $7::uuid[], $8::text[],
  $9::interval[]) as taken

-- name: known
-- Cards that this peer has ever claimed and whose id is $3 or begins with it.
select distinct e.card_id from fleet.card_event e
where e.tenant_id = $1 and e.actor_id = $2 and e.actor_kind = 'peer' and e.kind = 'claimed'
  and e.card_id >= $3 and e.card_id < $3 || '~'
order by e.card_id limit 6
