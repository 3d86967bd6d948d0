-- name: lock_graph
-- Edges between cards that are there already are added one after another in a tenant: two at once could close a cycle that
-- neither sees. The lock ends with the transaction.
select pg_advisory_xact_lock(hashtextextended('backlog-graph' || $1::text, 7))

-- name: share_graph
-- Whoever makes a card that depends on others: their depths must not change meanwhile.
select pg_advisory_xact_lock_shared(hashtextextended('backlog-graph' || $1::text, 7))

-- name: lock_dependencies
-- Waits for completions under way of these cards, and holds off those to come, until this transaction ends.
select c.card_id, c.status, c.depth from fleet.card c
where c.tenant_id = $1 and c.card_id = any($2::text[])
order by c.card_id
for key share of c

-- name: add_edge
insert into fleet.card_edge (tenant_id, card_id, depends_on) values ($1, $2, $3)

-- name: remove_edges
delete from fleet.card_edge where tenant_id = $1 and card_id = $2 and depends_on = any($3::text[])
returning depends_on

-- name: dependencies
select card_id, depends_on from fleet.card_edge
where tenant_id = $1 and card_id = any($2::text[])
order by card_id, depends_on

-- name: change_unmet
update fleet.card c set unmet = c.unmet + $3, changed_at = now(),
  ready_since = case when c.status = 'ready' and c.unmet + $3 = 0 then coalesce(c.ready_since, now()) end
where c.tenant_id = $1 and c.card_id = $2

-- name: settle_depth
select fleet.settle_depth($1, $2, $3)

-- name: edges_below
-- Every edge on a way down from $2, as far as cards that lie deeper than the one at depth $3, or are it, can be reached.
with recursive walk (card_id, depends_on) as (
  select e.card_id, e.depends_on from fleet.card_edge e where e.tenant_id = $1 and e.card_id = any($2::text[])
  union
  select e.card_id, e.depends_on
  from walk w
  join fleet.card c on c.tenant_id = $1 and c.card_id = w.depends_on and c.depth >= $3
  join fleet.card_edge e on e.tenant_id = $1 and e.card_id = w.depends_on
)
select card_id, depends_on from walk

-- name: deepest_chain
with recursive chain (card_id, depth) as (
  select c.card_id, c.depth from fleet.card c where c.tenant_id = $1 and c.card_id = $2
  union all
  select below.card_id, below.depth
  from chain cross join lateral (
    select c.card_id, c.depth from fleet.card_edge e
    join fleet.card c on c.tenant_id = $1 and c.card_id = e.depends_on
    where e.tenant_id = $1 and e.card_id = chain.card_id and c.depth < chain.depth
    order by c.depth desc, c.card_id limit 1
  ) below
)
select card_id from chain

-- name: tree_below
with recursive walk (card_id, level) as (
  select $2::text collate "C", 0
  union
  select e.depends_on, w.level + 1 from walk w
  join fleet.card_edge e on e.tenant_id = $1 and e.card_id = w.card_id where w.level < $3
)
select distinct e.card_id as parent, e.depends_on as child from walk w
join fleet.card_edge e on e.tenant_id = $1 and e.card_id = w.card_id
order by 1, 2
limit $4

-- name: tree_above
with recursive walk (card_id, level) as (
  select $2::text collate "C", 0
  union
  select e.card_id, w.level + 1 from walk w
  join fleet.card_edge e on e.tenant_id = $1 and e.depends_on = w.card_id where w.level < $3
)
select distinct e.depends_on as parent, e.card_id as child from walk w
join fleet.card_edge e on e.tenant_id = $1 and e.depends_on = w.card_id
order by 1, 2
limit $4
