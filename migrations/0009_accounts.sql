-- People. `email` is in its one canonical form, so that plain uniqueness is uniqueness. A deleted
-- account is a tombstone without a person in it.
create table accounts (
    id                   uuid        not null,
    -- The organization that the account was made with: its events are in that trail.
    home_organization_id uuid        not null,
    email                text,
    name                 text,
    handle               text,
    password_hash        text,
    -- Counts the passwords, not their hashes: the same one hashed anew is the same version.
    password_version     integer     not null default 1,
    is_active            boolean     not null default true,
    verified_at          timestamptz,
    last_login_at        timestamptz,
    created_at           timestamptz not null,
    updated_at           timestamptz not null,
    deleted_at           timestamptz,
    constraint accounts_pkey primary key (id),
    constraint accounts_email_key unique (email),
    constraint accounts_handle_key unique (handle),
    constraint accounts_handle_check check (handle ~ '^[a-z0-9](-?[a-z0-9]){0,62}$'),
    constraint accounts_deleted_check check (
        case when deleted_at is null then email is not null and handle is not null
             else email is null and name is null and handle is null and password_hash is null
        end),
    constraint accounts_home_organization_id_fkey
        foreign key (home_organization_id) references organizations (id)
);

create index accounts_home_organization_id_idx on accounts (home_organization_id);

-- A deleted organization keeps its row, so that its handle is never given out again.
alter table organizations
    add column name            text,
    add column allowed_origins text[]      not null default '{}',
    add column updated_at      timestamptz,
    add column deleted_at      timestamptz;
update organizations set name = handle, updated_at = created_at;
alter table organizations
    alter column name set not null,
    alter column updated_at set not null;

-- A seat may be a person's. One that was given up keeps its row: keys that it minted name it.
alter table users
    add column account_id uuid,
    add column removed_at timestamptz,
    add constraint users_account_id_fkey foreign key (account_id) references accounts (id);
create unique index users_account_id_organization_id_key on users (account_id, organization_id)
    where removed_at is null;
create index users_account_id_idx on users (account_id);
