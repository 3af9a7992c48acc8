-- Personal access tokens: keys of a person, not of an organization; one may be pinned to an
-- organization, and then works there only.
create table personal_tokens (
    id              uuid        not null,
    account_id      uuid        not null,
    pinned_to       uuid,
    digest          bytea       not null,
    pepper_id       text        not null,
    prefix          text        not null,
    display_id      text        not null,
    name            text        not null,
    scopes          text[]      not null,
    created_at      timestamptz not null,
    updated_at      timestamptz not null,
    expires_at      timestamptz,
    last_used_at    timestamptz,
    revoked_at      timestamptz,
    constraint personal_tokens_pkey primary key (id),
    constraint personal_tokens_digest_key unique (digest),
    constraint personal_tokens_digest_check check (octet_length(digest) = 32),
    constraint personal_tokens_scopes_check check (cardinality(scopes) > 0),
    constraint personal_tokens_account_id_fkey foreign key (account_id) references accounts (id),
    constraint personal_tokens_pinned_to_fkey
        foreign key (pinned_to) references organizations (id)
);

create index personal_tokens_account_id_id_idx on personal_tokens (account_id, id desc);
create index personal_tokens_pinned_to_idx on personal_tokens (pinned_to);

-- Requests are counted for an organization's keys and for the tokens that act in it.
alter table usage_daily drop constraint usage_daily_key_id_fkey;
drop index usage_daily_organization_id_key_id_idx;
alter table usage_daily
    add constraint usage_daily_organization_id_fkey
        foreign key (organization_id) references organizations (id);

-- The key that an account was given at signup, and can have replaced.
alter table accounts
    add column default_key_id uuid,
    add constraint accounts_default_key_id_fkey
        foreign key (home_organization_id, default_key_id)
        references api_keys (organization_id, id);
create index accounts_home_organization_id_default_key_id_idx
    on accounts (home_organization_id, default_key_id);
drop index accounts_home_organization_id_idx;
