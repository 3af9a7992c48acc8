-- What a key was exchanged for: a session that lives no longer than its key, and the chain of
-- its refresh tokens, of which the one that is not used yet is good.
create table key_sessions (
    id              uuid        not null,
    organization_id uuid        not null,
    key_id          uuid        not null,
    created_at      timestamptz not null,
    revoked_at      timestamptz,
    constraint key_sessions_pkey primary key (id),
    constraint key_sessions_key_id_fkey
        foreign key (organization_id, key_id) references api_keys (organization_id, id),
    constraint key_sessions_organization_id_id_key unique (organization_id, id)
);

create index key_sessions_organization_id_key_id_idx on key_sessions (organization_id, key_id);

create table refresh_tokens (
    digest          bytea       not null,
    organization_id uuid        not null,
    session_id      uuid        not null,
    created_at      timestamptz not null,
    expires_at      timestamptz not null,
    used_at         timestamptz,
    constraint refresh_tokens_pkey primary key (digest),
    constraint refresh_tokens_digest_check check (octet_length(digest) = 32),
    constraint refresh_tokens_session_id_fkey
        foreign key (organization_id, session_id) references key_sessions (organization_id, id)
);

-- What a sweep looks for.
create index refresh_tokens_expires_at_idx on refresh_tokens (expires_at);
create index refresh_tokens_organization_id_session_id_idx
    on refresh_tokens (organization_id, session_id);
