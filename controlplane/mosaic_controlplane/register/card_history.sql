-- name: add_event
insert into fleet.card_event (tenant_id, card_id, at, kind, status, fence, actor_kind, actor_id, actor_name, run_id, reason, details)
values ($1, $2, coalesce($3, now()), $4, $5, $6, $7, $8, $9, $10, $11, $12::jsonb)

-- name: history
select at, kind, status, fence, actor_kind, actor_id, actor_name, run_id, reason, details::text as details, waited
from fleet.card_event where tenant_id = $1 and card_id = $2
order by event_id desc limit $3

-- name: histories
select card_id, at, kind, status, fence, actor_kind, actor_id, actor_name, run_id, reason, details::text as details, waited
from fleet.card_event where tenant_id = $1 and card_id = any($2::text[])
order by card_id, event_id
