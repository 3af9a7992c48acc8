-- When an address was proven by whoever holds both its mailbox and the account's password. Where
-- `verified_at` alone is set, a click in the mail was enough for an older version: whoever made the
-- account may not be whoever reads the mail.
alter table accounts add column proven_at timestamptz;

-- Inviting people needs a proven address, and is done in an organization's name.
grant select (proven_at) on accounts to tenantry_tenant;
