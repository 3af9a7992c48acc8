-- The device flow (RFC 8628): a program without a browser asks for access, and a person answers in
-- a browser elsewhere.
create table oauth_devices (
    -- The digest of the code that the program polls with. Once a person approves, there is a row of
    -- oauth_codes with the same digest, which is redeemed like any other code.
    digest           bytea       not null,
    -- The digest of the code that the person types.
    user_code_digest bytea       not null,
    client_id        uuid        not null,
    -- The organization of the client.
    organization_id  uuid        not null,
    scopes           text[]      not null,
    resources        text[]      not null,
    is_offline       boolean     not null,
    status           text        not null,
    -- Who typed the code: the only one who may answer.
    account_id       uuid,
    session_id       uuid,
    -- The digest of the handle with which that person answers.
    request_digest   bytea,
    -- How long the program has to wait between two polls.
    interval_seconds integer     not null,
    polled_at        timestamptz,
    created_at       timestamptz not null,
    expires_at       timestamptz not null,
    constraint oauth_devices_pkey primary key (digest),
    constraint oauth_devices_user_code_digest_key unique (user_code_digest),
    constraint oauth_devices_request_digest_key unique (request_digest),
    constraint oauth_devices_digest_check
        check (octet_length(digest) = 32 and octet_length(user_code_digest) = 32
               and octet_length(request_digest) = 32),
    constraint oauth_devices_status_check
        check (status in ('pending', 'claimed', 'approved', 'denied')),
    constraint oauth_devices_account_id_check
        check ((status = 'pending') = (account_id is null)
               and (account_id is null) = (session_id is null)
               and (account_id is null) = (request_digest is null)),
    constraint oauth_devices_client_id_fkey
        foreign key (client_id) references oauth_clients (id) on delete cascade,
    constraint oauth_devices_organization_id_fkey
        foreign key (organization_id) references organizations (id),
    constraint oauth_devices_account_id_fkey
        foreign key (account_id) references accounts (id) on delete cascade,
    constraint oauth_devices_session_id_fkey
        foreign key (session_id) references sessions (id) on delete cascade
);
create index oauth_devices_client_id_idx on oauth_devices (client_id);
create index oauth_devices_organization_id_idx on oauth_devices (organization_id);
create index oauth_devices_account_id_idx on oauth_devices (account_id);
create index oauth_devices_session_id_idx on oauth_devices (session_id);
create index oauth_devices_expires_at_idx on oauth_devices (expires_at);

-- A device has no redirect and no challenge: it has proven itself with the device code.
alter table oauth_codes
    alter column redirect_uri drop not null,
    alter column challenge drop not null;

-- Row-level security (0042): like authorization requests, a tenant's own rows only.
alter table oauth_devices enable row level security;
alter table oauth_devices force row level security;
create policy oauth_devices_system on oauth_devices to current_user using (true) with check (true);
create policy oauth_devices_tenant on oauth_devices to tenantry_tenant
    using ((organization_id = (select tenant_organization())) is true)
    with check (organization_id = tenant_organization());
