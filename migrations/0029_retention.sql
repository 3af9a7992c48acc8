-- no-transaction
-- What finds rows that are past their retention.
--
-- A deleted organization keeps its row, without what it was called, so that its id is never given out
-- again; `purged_at` is when everything else of it was gone.
alter table organizations add column if not exists purged_at timestamptz;
create index concurrently if not exists organizations_deleted_at_idx on organizations (deleted_at)
    where deleted_at is not null and purged_at is null;

create index concurrently if not exists api_keys_ended_idx
    on api_keys (least(revoked_at, expires_at))
    where revoked_at is not null or expires_at is not null;
create index concurrently if not exists personal_tokens_ended_idx
    on personal_tokens (least(revoked_at, expires_at))
    where revoked_at is not null or expires_at is not null;
create index concurrently if not exists users_removed_at_idx on users (removed_at)
    where removed_at is not null;
create index concurrently if not exists accounts_deleted_at_idx on accounts (deleted_at)
    where deleted_at is not null;
create index concurrently if not exists invites_expires_at_idx on invites (expires_at);
create index concurrently if not exists key_claims_expires_at_idx on key_claims (expires_at);
create index concurrently if not exists payments_created_at_idx on payments (created_at);
-- Days come in their order.
create index concurrently if not exists usage_daily_day_idx on usage_daily using brin (day);
