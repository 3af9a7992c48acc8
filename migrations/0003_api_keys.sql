-- Keys. The text of a key is nowhere: `digest` is its HMAC under the pepper `pepper_id`.
create table api_keys (
    id              uuid        not null,
    organization_id uuid        not null,
    user_id         uuid        not null,
    digest          bytea       not null,
    pepper_id       text        not null,
    prefix          text        not null,
    display_id      text        not null,
    name            text,
    -- Whether this key still counts when names are compared: a revoked or expired one
    -- gives its name back.
    name_held       boolean     not null,
    scopes          text[]      not null,
    created_at      timestamptz not null,
    expires_at      timestamptz,
    last_used_at    timestamptz,
    revoked_at      timestamptz,
    constraint api_keys_pkey primary key (id),
    constraint api_keys_digest_key unique (digest),
    constraint api_keys_digest_check check (octet_length(digest) = 32),
    -- An empty list means nothing, never everything: it is refused here too.
    constraint api_keys_scopes_check check (cardinality(scopes) > 0),
    constraint api_keys_revoked_name_check check (revoked_at is null or not name_held),
    constraint api_keys_user_id_fkey
        foreign key (organization_id, user_id) references users (organization_id, id),
    constraint api_keys_organization_id_id_key unique (organization_id, id)
);

create unique index api_keys_held_name_key on api_keys (organization_id, name) where name_held;
create index api_keys_organization_id_user_id_idx on api_keys (organization_id, user_id);
-- Lists read the newest first.
create index api_keys_organization_id_created_at_idx
    on api_keys (organization_id, created_at desc, id desc);
