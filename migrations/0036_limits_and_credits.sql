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
alter table api_keys
    drop constraint if exists api_keys_limits_check,
    add constraint api_keys_limits_check check (jsonb_typeof(limits) = 'array') not valid;
alter table api_keys validate constraint api_keys_limits_check;
alter table organizations
    drop constraint if exists organizations_limits_check,
    drop constraint if exists organizations_metadata_check,
    add constraint organizations_limits_check check (jsonb_typeof(limits) = 'array') not valid,
    add constraint organizations_metadata_check check (jsonb_typeof(metadata) = 'object') not valid;
alter table organizations validate constraint organizations_limits_check;
alter table organizations validate constraint organizations_metadata_check;
