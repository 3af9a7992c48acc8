-- Single sign-on: connections of organizations to their own identity providers.
create table sso_connections (
    id                     uuid        not null,
    organization_id        uuid        not null,
    kind                   text        not null,
    status                 text        not null,
    -- The issuer identifier, exactly as the provider states it.
    issuer                 text        not null,
    client_id              text        not null,
    -- The client secret, sealed with the key of this id (SEALING_KEYS).
    sealed_secret          bytea       not null,
    sealing_key_id         text        not null,
    -- The provider's metadata, as it was last fetched.
    authorization_endpoint text        not null,
    token_endpoint         text        not null,
    jwks_uri               text        not null,
    userinfo_endpoint      text,
    takes_secret_in_body   boolean     not null,
    discovered_at          timestamptz not null,
    -- When a fetch of the metadata last began, also if it failed.
    checked_at             timestamptz not null,
    jit_enabled            boolean     not null,
    jit_default_role       text        not null,
    syncs_role             boolean     not null,
    session_hours          integer     not null,
    last_error             text,
    -- The membership that created it.
    created_by             uuid,
    created_at             timestamptz not null,
    updated_at             timestamptz not null,
    disabled_at            timestamptz,
    constraint sso_connections_pkey primary key (id),
    constraint sso_connections_organization_id_fkey
        foreign key (organization_id) references organizations (id),
    constraint sso_connections_created_by_fkey
        foreign key (organization_id, created_by) references users (organization_id, id),
    constraint sso_connections_kind_check check (kind in ('oidc')),
    constraint sso_connections_status_check
        check (status in ('inactive', 'active', 'disabled')
               and (status = 'disabled') = (disabled_at is not null)),
    -- Who signs in for the first time never becomes an owner.
    constraint sso_connections_jit_default_role_check
        check (jit_default_role in ('member', 'admin')),
    constraint sso_connections_session_hours_check check (session_hours between 1 and 24)
);
create index sso_connections_organization_id_id_idx
    on sso_connections (organization_id, id desc);
create index sso_connections_organization_id_created_by_idx
    on sso_connections (organization_id, created_by);
create index sso_connections_checked_at_idx on sso_connections (checked_at)
    where status = 'active';

-- The roles that claims of a connection's provider give, in the order in which they are listed.
create table sso_role_mappings (
    connection_id   uuid    not null,
    organization_id uuid    not null,
    position        integer not null,
    claim           text    not null,
    value           text    not null,
    role            text    not null,
    constraint sso_role_mappings_pkey primary key (connection_id, position),
    constraint sso_role_mappings_connection_id_fkey
        foreign key (connection_id) references sso_connections (id) on delete cascade,
    constraint sso_role_mappings_organization_id_fkey
        foreign key (organization_id) references organizations (id),
    constraint sso_role_mappings_role_check check (role in ('owner', 'admin', 'member'))
);
create index sso_role_mappings_organization_id_idx on sso_role_mappings (organization_id);

-- Row-level security (0042).
do $$
declare
    secured text;
begin
    foreach secured in array array['sso_connections', 'sso_role_mappings'] loop
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
grant select, insert, update, delete on sso_connections, sso_role_mappings to tenantry_tenant;
