-- OAuth 2.1: apps of organizations (clients), what people granted to them, and the tokens.

-- A client. Whose app it is; a client that no organization registered is the deployment's own.
create table oauth_clients (
    id               uuid        not null,
    -- The public id: the app's own, or the URL of a metadata document.
    client_id        text        not null,
    organization_id  uuid        not null,
    kind             text        not null,
    name             text        not null,
    client_uri       text,
    redirect_uris    text[]      not null,
    application_type text        not null,
    auth_method      text        not null,
    scopes           text[]      not null,
    visibility       text        not null,
    published_at     timestamptz,
    disabled_at      timestamptz,
    -- The membership that registered it.
    created_by       uuid,
    created_at       timestamptz not null,
    updated_at       timestamptz not null,
    constraint oauth_clients_pkey primary key (id),
    constraint oauth_clients_client_id_key unique (client_id),
    constraint oauth_clients_organization_id_fkey
        foreign key (organization_id) references organizations (id),
    constraint oauth_clients_created_by_fkey
        foreign key (organization_id, created_by) references users (organization_id, id),
    constraint oauth_clients_kind_check check (kind in ('registered', 'document', 'dynamic')),
    constraint oauth_clients_redirect_uris_check
        check (cardinality(redirect_uris) between 1 and 10),
    constraint oauth_clients_application_type_check
        check (application_type in ('web', 'native')),
    constraint oauth_clients_auth_method_check
        check (auth_method in ('none', 'client_secret_basic', 'client_secret_post')),
    constraint oauth_clients_visibility_check check (visibility in ('private', 'public'))
);
create unique index oauth_clients_organization_id_name_key
    on oauth_clients (organization_id, lower(name collate "C")) where kind = 'registered';
create index oauth_clients_organization_id_id_idx on oauth_clients (organization_id, id desc);
create index oauth_clients_organization_id_created_by_idx
    on oauth_clients (organization_id, created_by);

create table oauth_client_secrets (
    id              uuid        not null,
    client_id       uuid        not null,
    organization_id uuid        not null,
    digest          bytea       not null,
    pepper_id       text        not null,
    -- The first characters after the prefix, which may be displayed.
    display_id      text        not null,
    created_at      timestamptz not null,
    expires_at      timestamptz,
    last_used_at    timestamptz,
    constraint oauth_client_secrets_pkey primary key (id),
    constraint oauth_client_secrets_digest_key unique (digest),
    constraint oauth_client_secrets_digest_check check (octet_length(digest) = 32),
    constraint oauth_client_secrets_client_id_fkey
        foreign key (client_id) references oauth_clients (id) on delete cascade,
    constraint oauth_client_secrets_organization_id_fkey
        foreign key (organization_id) references organizations (id)
);
create index oauth_client_secrets_client_id_idx on oauth_client_secrets (client_id);
create index oauth_client_secrets_organization_id_idx on oauth_client_secrets (organization_id);

-- What a person granted to a client, in one organization or, without one, about the person's own
-- account. It ends with the membership: a new membership does not bring it back.
create table oauth_grants (
    id              uuid        not null,
    account_id      uuid        not null,
    client_id       uuid        not null,
    organization_id uuid,
    user_id         uuid,
    scopes          text[]      not null,
    resources       text[]      not null,
    created_at      timestamptz not null,
    updated_at      timestamptz not null,
    last_used_at    timestamptz,
    revoked_at      timestamptz,
    revoked_reason  text,
    constraint oauth_grants_pkey primary key (id),
    constraint oauth_grants_account_id_fkey foreign key (account_id) references accounts (id),
    constraint oauth_grants_client_id_fkey
        foreign key (client_id) references oauth_clients (id) on delete cascade,
    constraint oauth_grants_organization_id_fkey
        foreign key (organization_id) references organizations (id),
    constraint oauth_grants_user_id_fkey
        foreign key (organization_id, user_id) references users (organization_id, id),
    constraint oauth_grants_user_id_check check ((organization_id is null) = (user_id is null)),
    constraint oauth_grants_revoked_reason_check
        check ((revoked_at is null) = (revoked_reason is null))
);
-- One live grant for each person, client and organization.
create unique index oauth_grants_live_key on oauth_grants (account_id, client_id,
    coalesce(organization_id, '00000000-0000-0000-0000-000000000000')) where revoked_at is null;
create index oauth_grants_account_id_id_idx on oauth_grants (account_id, id desc);
create index oauth_grants_client_id_idx on oauth_grants (client_id);
create index oauth_grants_organization_id_user_id_idx on oauth_grants (organization_id, user_id);
create index oauth_grants_organization_id_id_idx on oauth_grants (organization_id, id desc);

-- An authorization request between its arrival and the answer of the person.
create table oauth_requests (
    -- The digest of the handle in the pages' URLs.
    digest          bytea       not null,
    client_id       uuid        not null,
    -- The organization of the client.
    organization_id uuid        not null,
    parameters      jsonb       not null,
    -- The digest of a cookie: only the browser that began the request may answer it.
    browser_digest  bytea       not null,
    created_at      timestamptz not null,
    expires_at      timestamptz not null,
    used_at         timestamptz,
    constraint oauth_requests_pkey primary key (digest),
    constraint oauth_requests_digest_check
        check (octet_length(digest) = 32 and octet_length(browser_digest) = 32),
    constraint oauth_requests_client_id_fkey
        foreign key (client_id) references oauth_clients (id) on delete cascade,
    constraint oauth_requests_organization_id_fkey
        foreign key (organization_id) references organizations (id)
);
create index oauth_requests_client_id_idx on oauth_requests (client_id);
create index oauth_requests_organization_id_idx on oauth_requests (organization_id);
create index oauth_requests_expires_at_idx on oauth_requests (expires_at);

create table oauth_codes (
    digest       bytea       not null,
    account_id   uuid        not null,
    grant_id     uuid        not null,
    -- The session in which the person consented.
    session_id   uuid        not null,
    redirect_uri text        not null,
    challenge    text        not null,
    nonce        text,
    scopes       text[]      not null,
    resources    text[]      not null,
    -- Whether tokens outlive the session (`offline_access`).
    is_offline   boolean     not null,
    created_at   timestamptz not null,
    expires_at   timestamptz not null,
    used_at      timestamptz,
    constraint oauth_codes_pkey primary key (digest),
    constraint oauth_codes_digest_check check (octet_length(digest) = 32),
    constraint oauth_codes_account_id_fkey foreign key (account_id) references accounts (id),
    constraint oauth_codes_grant_id_fkey
        foreign key (grant_id) references oauth_grants (id) on delete cascade,
    constraint oauth_codes_session_id_fkey
        foreign key (session_id) references sessions (id) on delete cascade
);
create index oauth_codes_account_id_idx on oauth_codes (account_id);
create index oauth_codes_grant_id_idx on oauth_codes (grant_id);
create index oauth_codes_session_id_idx on oauth_codes (session_id);
create index oauth_codes_expires_at_idx on oauth_codes (expires_at);

create table oauth_access_tokens (
    id           uuid        not null,
    digest       bytea       not null,
    account_id   uuid        not null,
    grant_id     uuid        not null,
    -- The session that it ends with; null for `offline_access`.
    session_id   uuid,
    scopes       text[]      not null,
    resources    text[]      not null,
    created_at   timestamptz not null,
    expires_at   timestamptz not null,
    revoked_at   timestamptz,
    constraint oauth_access_tokens_pkey primary key (id),
    constraint oauth_access_tokens_digest_key unique (digest),
    constraint oauth_access_tokens_digest_check check (octet_length(digest) = 32),
    constraint oauth_access_tokens_account_id_fkey
        foreign key (account_id) references accounts (id),
    constraint oauth_access_tokens_grant_id_fkey
        foreign key (grant_id) references oauth_grants (id) on delete cascade,
    constraint oauth_access_tokens_session_id_fkey
        foreign key (session_id) references sessions (id) on delete cascade
);
create index oauth_access_tokens_account_id_idx on oauth_access_tokens (account_id);
create index oauth_access_tokens_grant_id_idx on oauth_access_tokens (grant_id);
create index oauth_access_tokens_session_id_idx on oauth_access_tokens (session_id);
create index oauth_access_tokens_expires_at_idx on oauth_access_tokens (expires_at);

create table oauth_refresh_tokens (
    id           uuid        not null,
    digest       bytea       not null,
    account_id   uuid        not null,
    grant_id     uuid        not null,
    -- The digest of the code that its chain began with.
    code         bytea       not null,
    -- The number of tokens before it in the chain that began with the code.
    generation   integer     not null,
    -- With the token's own text and the pepper, gives the text of its successor.
    salt         bytea       not null,
    pepper_id    text        not null,
    scopes       text[]      not null,
    resources    text[]      not null,
    created_at   timestamptz not null,
    expires_at   timestamptz not null,
    -- The end of the whole chain.
    absolute_at  timestamptz not null,
    -- When its successor was issued.
    used_at      timestamptz,
    constraint oauth_refresh_tokens_pkey primary key (id),
    constraint oauth_refresh_tokens_digest_key unique (digest),
    constraint oauth_refresh_tokens_code_generation_key unique (code, generation),
    constraint oauth_refresh_tokens_digest_check
        check (octet_length(digest) = 32 and octet_length(salt) = 32),
    constraint oauth_refresh_tokens_account_id_fkey
        foreign key (account_id) references accounts (id),
    constraint oauth_refresh_tokens_grant_id_fkey
        foreign key (grant_id) references oauth_grants (id) on delete cascade
);
create index oauth_refresh_tokens_account_id_idx on oauth_refresh_tokens (account_id);
create index oauth_refresh_tokens_grant_id_idx on oauth_refresh_tokens (grant_id);
create index oauth_refresh_tokens_expires_at_idx on oauth_refresh_tokens (expires_at);

-- Which clients an organization's people may grant access to: all (the default without a row), the
-- allowed ones, or none. Blocked ones never.
create table organization_app_policies (
    organization_id uuid        not null,
    mode            text        not null,
    updated_at      timestamptz not null,
    constraint organization_app_policies_pkey primary key (organization_id),
    constraint organization_app_policies_organization_id_fkey
        foreign key (organization_id) references organizations (id),
    constraint organization_app_policies_mode_check check (mode in ('open', 'approved', 'none'))
);
create table organization_app_rules (
    organization_id uuid        not null,
    client_id       uuid        not null,
    rule            text        not null,
    created_by      uuid        not null,
    created_at      timestamptz not null,
    constraint organization_app_rules_pkey primary key (organization_id, client_id),
    constraint organization_app_rules_organization_id_fkey
        foreign key (organization_id) references organizations (id),
    constraint organization_app_rules_client_id_fkey
        foreign key (client_id) references oauth_clients (id) on delete cascade,
    constraint organization_app_rules_created_by_fkey
        foreign key (organization_id, created_by) references users (organization_id, id),
    constraint organization_app_rules_rule_check check (rule in ('allowed', 'blocked'))
);
create index organization_app_rules_client_id_idx on organization_app_rules (client_id);
create index organization_app_rules_organization_id_created_by_idx
    on organization_app_rules (organization_id, created_by);

-- Whether a policy permits a client: its mode, and its rule about the client, each null for none.
create function permits_app(mode text, rule text) returns boolean language sql immutable
    return rule is distinct from 'blocked'
           and case coalesce(mode, 'open') when 'open' then true
                    when 'approved' then coalesce(rule = 'allowed', false) else false end;

-- Row-level security (0016, 0021). A tenant changes its own apps, and sees the clients of others
-- that its people granted access to or that its policy names. Requests, codes and tokens are no
-- tenant's to read.
do $$
declare
    secured text;
begin
    foreach secured in array array['oauth_clients', 'oauth_client_secrets', 'oauth_grants',
            'oauth_requests', 'oauth_codes', 'oauth_access_tokens', 'oauth_refresh_tokens',
            'organization_app_policies', 'organization_app_rules'] loop
        execute format('alter table %I enable row level security', secured);
        execute format('alter table %I force row level security', secured);
        execute format('create policy %I on %I to current_user using (true) with check (true)',
                       secured || '_system', secured);
    end loop;
    foreach secured in array array['oauth_client_secrets', 'oauth_grants', 'oauth_requests',
            'organization_app_policies', 'organization_app_rules'] loop
        execute format('create policy %I on %I to tenantry_tenant '
                       'using ((organization_id = (select tenant_organization())) is true) '
                       'with check (organization_id = tenant_organization())',
                       secured || '_tenant', secured);
    end loop;
end
$$;
create policy oauth_clients_tenant on oauth_clients to tenantry_tenant
    using ((organization_id = (select tenant_organization())) is true)
    with check (organization_id = tenant_organization());
-- For reading only: a statement must not be able to delete or take over the client of another.
create policy oauth_clients_tenant_used on oauth_clients for select to tenantry_tenant
    using (exists (select from oauth_grants g
                   where g.client_id = oauth_clients.id
                     and g.organization_id = tenant_organization())
           or exists (select from organization_app_rules r
                      where r.client_id = oauth_clients.id
                        and r.organization_id = tenant_organization()));
grant select, insert, update, delete on oauth_clients, oauth_client_secrets,
    organization_app_policies, organization_app_rules to tenantry_tenant;
grant select, update on oauth_grants to tenantry_tenant;

-- Answers about access tokens may be kept (0041).
create trigger credential_changed
    after update of account_id, digest, expires_at, grant_id, id, resources, revoked_at, scopes,
        session_id or delete on oauth_access_tokens
    for each row execute function credential_changed('id');
create trigger credential_changed
    after update of account_id, client_id, id, organization_id, revoked_at, scopes, user_id
        or delete on oauth_grants
    for each row execute function credential_changed('id');
create trigger credential_changed
    after update of client_id, disabled_at, id, organization_id, visibility or delete
        on oauth_clients
    for each row execute function credential_changed('id');
create trigger credential_changed
    after update of id, revoked_at or delete on sessions
    for each row execute function credential_changed('id');
-- A use of a session moves its end, always to a later time.
create trigger credential_changed_earlier
    after update of expires_at on sessions
    for each row when (new.expires_at < old.expires_at)
    execute function credential_changed('id');
create trigger credential_truncated after truncate on oauth_access_tokens
    for each statement execute function credential_changed();
create trigger credential_truncated after truncate on oauth_grants
    for each statement execute function credential_changed();
create trigger credential_truncated after truncate on oauth_clients
    for each statement execute function credential_changed();
create trigger credential_truncated after truncate on sessions
    for each statement execute function credential_changed();

do $$
declare
    watched record;
begin
    for watched in select tgrelid::regclass as of, tgname as name from pg_trigger
                   where tgname like 'credential\_%' loop
        execute format('alter table %s enable always trigger %I', watched.of, watched.name);
    end loop;
end
$$;
