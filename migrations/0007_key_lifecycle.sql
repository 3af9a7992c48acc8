-- What an organization does with its keys after they were minted.
alter table api_keys
    add column enabled        boolean     not null default true,
    -- Networks a key may be used from; empty is everywhere.
    add column allowed_ips    cidr[]      not null default '{}',
    add column metadata       jsonb       not null default '{}',
    add column revoked_reason text,
    add column revoked_by     text,
    -- The key that this one took over from, and when it did: the older one then only serves
    -- out its grace.
    add column rotated_from   uuid,
    add column superseded_at  timestamptz,
    add constraint api_keys_metadata_check check (jsonb_typeof(metadata) = 'object'),
    add constraint api_keys_superseded_name_check check (superseded_at is null or not name_held),
    -- A key is rotated once: the next rotation is the newer key's.
    add constraint api_keys_rotated_from_key unique (organization_id, rotated_from),
    add constraint api_keys_rotated_from_fkey
        foreign key (organization_id, rotated_from) references api_keys (organization_id, id);

-- Ids grow with time, so lists read the newest first from api_keys_organization_id_id_key.
drop index api_keys_organization_id_created_at_idx;
