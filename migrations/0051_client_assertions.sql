-- The assertions with which clients authenticated: each is good once.
create table oauth_assertions (
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
create index oauth_assertions_organization_id_idx on oauth_assertions (organization_id);
create index oauth_assertions_expires_at_idx on oauth_assertions (expires_at);

-- Row-level security (0042): like authorization requests, a tenant's own rows only.
alter table oauth_assertions enable row level security;
alter table oauth_assertions force row level security;
create policy oauth_assertions_system on oauth_assertions to current_user
    using (true) with check (true);
create policy oauth_assertions_tenant on oauth_assertions to tenantry_tenant
    using ((organization_id = (select tenant_organization())) is true)
    with check (organization_id = tenant_organization());
