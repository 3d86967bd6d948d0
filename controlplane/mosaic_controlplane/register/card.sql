-- name: add
insert into fleet.card (tenant_id, card_id, title, body, mission, phase, priority, acceptance, labels, required_class, urgency,
  estimate_cost_micros, estimate_tokens, estimate_seconds, estimate_basis, goals, requirements, repository, branch, head,
  pull_request, evidence, gated, attempt_limit, time_limit, idempotency_key, draft_digest, unmet, depth, made_by_kind,
  made_by_id, made_by_name, ready_since)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25,
  $26, $27, $28, $29, $30, $31, $32, case when $28 = 0 then now() end)

-- name: bring_in
-- A card as it was exported. A claimed one is ready: its holder is not known here.
insert into fleet.card (tenant_id, card_id, title, body, mission, phase, priority, acceptance, labels, required_class, urgency,
  estimate_cost_micros, estimate_tokens, estimate_seconds, estimate_basis, goals, requirements, repository, branch, head,
  pull_request, evidence, gated, attempt_limit, time_limit, idempotency_key, draft_digest, unmet, depth, made_by_kind,
  made_by_id, made_by_name, ready_since, status, reason, fence, attempts, expired, spent_cost_micros, spent_tokens,
  spent_seconds, result, made_at, changed_at, finished_at, holder_kind, holder_id, holder_name, run_id, claimed_at)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25,
  $26, $27, $28, $29, $30, $31, $32, case when $28 = 0 and $33 = 'ready' then coalesce($34, now()) end, $33, $35, $36, $37,
  $38, $39, $40, $41, $42, $43, $44, $45, $46, $47, $48, $49, $50)

-- name: get
select c as card from fleet.card c where c.tenant_id = $1 and c.card_id = any($2::text[])

-- name: by_prefix
-- Ids are compared byte by byte, and hold only ASCII: what begins with a prefix lies between it and its successor.
select c.card_id from fleet.card c
where c.tenant_id = $1 and c.card_id >= $2 and c.card_id < $2 || '~'
order by c.card_id limit 6

-- name: beside
-- Read from the primary key in both directions, so that it costs the same in a backlog of any size.
(select c.card_id from fleet.card c where c.tenant_id = $1 and c.card_id < $2 order by c.card_id desc limit $3)
union all
(select c.card_id from fleet.card c where c.tenant_id = $1 and c.card_id > $2 order by c.card_id limit $3)

-- name: by_keys
select c as card from fleet.card c where c.tenant_id = $1 and c.idempotency_key = any($2::text[])

-- name: lock
select c as card from fleet.card c where c.tenant_id = $1 and c.card_id = $2 for no key update of c

-- name: set_content
update fleet.card c set title = $3, body = $4, mission = $5, phase = $6, priority = $7, acceptance = $8, labels = $9,
  required_class = $10, urgency = $11, estimate_cost_micros = $12, estimate_tokens = $13, estimate_seconds = $14,
  estimate_basis = $15, goals = $16, requirements = $17, repository = $18, branch = $19, head = $20, pull_request = $21,
  evidence = $22, gated = $23, attempt_limit = $24, time_limit = $25, changed_at = now()
where c.tenant_id = $1 and c.card_id = $2
returning c as card

-- name: everything
-- For an export: in the order of creation.
select c as card from fleet.card c where c.tenant_id = $1 order by c.seq
