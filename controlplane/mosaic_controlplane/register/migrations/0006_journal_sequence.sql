-- The newest event of a host's journal which is in the register: a hello that knows less comes from a restored journal.
alter table fleet.host add column journal_sequence bigint not null default 0;
