-- Resets of seats: a count that rises with each one asked for, as of restarts.

alter table fleet.agent
  add reset bigint not null default 0,
  add reset_way text not null default '';
