-- What the seats of a tenant are all told beside their roles, as of its newest roster.
create table fleet.briefing (
  tenant_id uuid primary key references fleet.tenant,
  content bytea not null                              -- mosaic.v1.Briefing, peers included
);
