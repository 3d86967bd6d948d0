-- From where an agent calls, as what a person does; and rows that outlive their tenant.
alter table fleet.audit add column caller_role text not null default '';
alter table fleet.audit add column caller_host text not null default '';
alter table fleet.audit drop constraint audit_tenant_id_fkey;

-- Read newest first, page by page.
drop index fleet.audit_by_time;
create index audit_by_time on fleet.audit (tenant_id, at, audit_id);
create index audit_by_age on fleet.audit using brin (at);

-- Whether a row of the audit is one that is asked for; '' asks for any.
create function fleet.audit_matches(
  a fleet.audit, caller text, kind text, of_method text, of_target text, of_outcome text
) returns boolean language sql immutable parallel safe as $$
  select (caller = '' or a.caller_name = caller) and (kind = '' or a.caller_kind = kind)
    and (of_method = '' or a.method = of_method or split_part(a.method, '/', 1) = of_method
      or split_part(a.method, '/', 2) = of_method)
    and (of_target = '' or a.target = of_target)
    and (of_outcome = '' or a.outcome = of_outcome or of_outcome = 'failed' and a.outcome <> 'done')
$$;

-- Removes a tenant with every row that names it, those first that refer to others. Returns how many rows of each table went.
-- The tables are asked of the catalogue, so that none can be forgotten; the audit stays.
create function fleet.remove_tenant(of_tenant uuid) returns table (name text, removed bigint) language plpgsql as $$
begin
  -- Whoever writes a row of this tenant now waits here, and is then refused by the row that is gone.
  perform 1 from fleet.tenant t where t.tenant_id = of_tenant for update;
  for name in
    with recursive refers as (
      select c.conrelid as child, c.confrelid as parent from pg_constraint c
      where c.contype = 'f' and c.connamespace = 'fleet'::regnamespace and c.conrelid <> c.confrelid
    ), level as (
      select a.attrelid as rel, 0 as depth from pg_attribute a join pg_class k on k.oid = a.attrelid
      where a.attname = 'tenant_id' and not a.attisdropped and k.relkind in ('r', 'p')
        and k.relnamespace = 'fleet'::regnamespace and k.relname <> 'audit'
      union all
      select r.child, l.depth + 1 from level l join refers r on r.parent = l.rel
    )
    select k.relname::text from level l join pg_class k on k.oid = l.rel
    group by k.relname order by max(l.depth) desc, k.relname
  loop
    execute format('delete from fleet.%I where tenant_id = $1', name) using of_tenant;
    get diagnostics removed = row_count;
    return next;
  end loop;
end $$;
