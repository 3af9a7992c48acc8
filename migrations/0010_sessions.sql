-- What signing in starts. The text of a session's token is nowhere: `digest` is its HMAC.
create table sessions (
    id           uuid        not null,
    account_id   uuid        not null,
    digest       bytea       not null,
    address      text,
    user_agent   text,
    created_at   timestamptz not null,
    -- Up to a minute behind.
    last_seen_at timestamptz not null,
    expires_at   timestamptz not null,
    revoked_at   timestamptz,
    constraint sessions_pkey primary key (id),
    constraint sessions_digest_key unique (digest),
    constraint sessions_digest_check check (octet_length(digest) = 32),
    constraint sessions_account_id_fkey foreign key (account_id) references accounts (id)
);

create index sessions_account_id_idx on sessions (account_id);
-- What a sweep looks for.
create index sessions_expires_at_idx on sessions (expires_at);
