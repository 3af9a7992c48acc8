-- Single sign-on: the people of identity providers, and sign-ins that wait for a provider's answer.

-- A person of an identity provider, and the account that they sign in to. Identified by the provider's
-- own id alone, never by an address.
create table sso_identities (
    connection_id   uuid        not null,
    subject         text        not null,
    organization_id uuid        not null,
    account_id      uuid        not null,
    created_at      timestamptz not null,
    last_sign_in_at timestamptz not null,
    constraint sso_identities_pkey primary key (connection_id, subject),
    constraint sso_identities_connection_id_account_id_key unique (connection_id, account_id),
    constraint sso_identities_connection_id_fkey
        foreign key (connection_id) references sso_connections (id) on delete cascade,
    constraint sso_identities_organization_id_fkey
        foreign key (organization_id) references organizations (id),
    constraint sso_identities_account_id_fkey
        foreign key (account_id) references accounts (id) on delete cascade
);
create index sso_identities_organization_id_idx on sso_identities (organization_id);
create index sso_identities_account_id_idx on sso_identities (account_id);

-- A sign-in between its start and the provider's answer.
create table sso_flows (
    -- The digest of `state`.
    digest          bytea       not null,
    -- The code verifier and the nonce are derived from the state and this pepper, and not stored.
    pepper_id       text        not null,
    connection_id   uuid        not null,
    organization_id uuid        not null,
    -- The digest of a cookie: only the browser that began the sign-in may complete it.
    browser_digest  bytea       not null,
    callback_url    text,
    expires_at      timestamptz not null,
    used_at         timestamptz,
    constraint sso_flows_pkey primary key (digest),
    constraint sso_flows_digest_check
        check (octet_length(digest) = 32 and octet_length(browser_digest) = 32),
    constraint sso_flows_connection_id_fkey
        foreign key (connection_id) references sso_connections (id) on delete cascade,
    constraint sso_flows_organization_id_fkey
        foreign key (organization_id) references organizations (id)
);
create index sso_flows_connection_id_idx on sso_flows (connection_id);
create index sso_flows_organization_id_idx on sso_flows (organization_id);
create index sso_flows_expires_at_idx on sso_flows (expires_at);

-- Row-level security (0042): a tenant's own rows only.
do $$
declare
    secured text;
begin
    foreach secured in array array['sso_identities', 'sso_flows'] loop
        execute format('alter table %I enable row level security', secured);
        execute format('alter table %I force row level security', secured);
        execute format('create policy %I on %I to current_user using (true) with check (true)',
                       secured || '_system', secured);
        execute format('create policy %I on %I to tenantry_tenant '
                       'using ((organization_id = (select tenant_organization())) is true) '
                       'with check (organization_id = tenant_organization())',
                       secured || '_tenant', secured);
    end loop;
end
$$;
grant select, delete on sso_identities, sso_flows to tenantry_tenant;
