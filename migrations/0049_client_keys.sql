-- no-transaction
-- Clients that prove who they are with a private key (RFC 7523): their public keys, or the URL at
-- which they publish them. And how the ID tokens of a client are signed.
alter table oauth_clients
    add column if not exists jwks         jsonb,
    add column if not exists jwks_uri     text,
    add column if not exists id_token_alg text not null default 'RS256';
alter table oauth_clients
    drop constraint if exists oauth_clients_auth_method_check,
    drop constraint if exists oauth_clients_jwks_check,
    drop constraint if exists oauth_clients_id_token_alg_check,
    add constraint oauth_clients_auth_method_check
        check (auth_method in ('none', 'client_secret_basic', 'client_secret_post',
                               'private_key_jwt')) not valid,
    add constraint oauth_clients_jwks_check
        check (num_nonnulls(jwks, jwks_uri)
               = case when auth_method = 'private_key_jwt' then 1 else 0 end) not valid,
    add constraint oauth_clients_id_token_alg_check
        check (id_token_alg in ('RS256', 'ES256')) not valid;
alter table oauth_clients validate constraint oauth_clients_auth_method_check;
alter table oauth_clients validate constraint oauth_clients_jwks_check;
alter table oauth_clients validate constraint oauth_clients_id_token_alg_check;

-- The assertions with which clients authenticated: each is good once.
create table if not exists oauth_assertions (
    client_id       uuid        not null,
    -- The organization of the client.
    organization_id uuid        not null,
    -- The id that the client gave it (`jti`).
    assertion_id    text        not null,
    expires_at      timestamptz not null,
    constraint oauth_assertions_pkey primary key (client_id, assertion_id),
    constraint oauth_assertions_client_id_fkey
        foreign key (client_id) references oauth_clients (id) on delete cascade,
    constraint oauth_assertions_organization_id_fkey
        foreign key (organization_id) references organizations (id)
);
create index concurrently if not exists oauth_assertions_organization_id_idx
    on oauth_assertions (organization_id);
create index concurrently if not exists oauth_assertions_expires_at_idx
    on oauth_assertions (expires_at);

-- Row-level security (0042): like authorization requests, a tenant's own rows only.
alter table oauth_assertions enable row level security;
alter table oauth_assertions force row level security;
drop policy if exists oauth_assertions_system on oauth_assertions;
create policy oauth_assertions_system on oauth_assertions to current_user
    using (true) with check (true);
drop policy if exists oauth_assertions_tenant on oauth_assertions;
create policy oauth_assertions_tenant on oauth_assertions to tenantry_tenant
    using ((organization_id = (select tenant_organization())) is true)
    with check (organization_id = tenant_organization());
