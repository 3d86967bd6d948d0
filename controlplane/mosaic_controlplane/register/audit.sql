-- name: record
insert into fleet.audit
  (audit_id, tenant_id, caller_kind, caller_id, caller_name, peer_address, method, target, request_id, outcome, detail)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11::jsonb)
