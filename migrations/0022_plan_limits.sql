-- What counting against a plan needs. A request that was turned away (429) is denied and does not
-- count as used, so there may be more denied ones than requests.
alter table usage_daily
    drop constraint usage_daily_requests_check,
    add constraint usage_daily_requests_check check (requests >= 0 and denied >= 0);

-- Whoever makes a key counts the live ones; those that have ended, however many, are not looked at.
create index api_keys_organization_id_expires_at_idx on api_keys (organization_id, expires_at)
    where revoked_at is null and superseded_at is null;
