-- What was answered to a request that may come again: whole, but for secrets. A row is written in
-- the transaction of the change it tells of.
create table idempotency_keys (
    organization_id uuid        not null,
    principal       text        not null,
    endpoint        text        not null,
    -- SHA-256 of the caller's header.
    key_digest      bytea       not null,
    fingerprint     bytea       not null,
    status          smallint    not null,
    body            jsonb,
    created_at      timestamptz not null,
    expires_at      timestamptz not null,
    constraint idempotency_keys_pkey primary key (principal, endpoint, key_digest),
    constraint idempotency_keys_key_digest_check check (octet_length(key_digest) = 32),
    constraint idempotency_keys_fingerprint_check check (octet_length(fingerprint) = 32),
    constraint idempotency_keys_organization_id_fkey
        foreign key (organization_id) references organizations (id)
);

create index idempotency_keys_organization_id_idx on idempotency_keys (organization_id);
-- What a sweep looks for.
create index idempotency_keys_expires_at_idx on idempotency_keys (expires_at);
