-- Whether the browser is to keep the session's cookie when it closes: what follows the session keeps
-- to it.
alter table sessions add column is_remembered boolean not null default true;
alter table sessions alter column is_remembered drop default;
