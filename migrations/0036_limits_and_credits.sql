-- no-transaction
-- Limits, credits and the operator's own ids for keys and organizations. Null is none.
alter table api_keys
    add column if not exists external_id text,
    -- A list of {name, limit, window_s, always}.
    add column if not exists limits jsonb,
    -- The first key of the rotations that led to this one, where it was rotated: they share limits
    -- and credits.
    add column if not exists metered_key_id uuid;
alter table organizations
    add column if not exists external_id text,
    add column if not exists metadata jsonb,
    add column if not exists limits jsonb;
create index concurrently if not exists organizations_external_id_idx
    on organizations (external_id) where external_id is not null;
