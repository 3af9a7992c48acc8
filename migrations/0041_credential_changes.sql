-- What could make a kept answer about a credential wrong: an entry for each change of a row that
-- such answers are made of. Servers keep answers in memory and ask, with each batch of lookups,
-- what has changed since. Entries are written by triggers, in the transaction of the change, so
-- that no statement can forget them.
create table credential_changes (
    -- Transactions do not commit in the order of their ids, and servers know that: they remember
    -- which ones were running.
    transaction_id  bigint      not null default pg_current_xact_id()::text::bigint,
    id              bigint      generated always as identity,
    -- Whose row it was; the deployment's own for accounts, tokens and organizations themselves.
    organization_id uuid        not null default '00000000-0000-0000-0000-000000000000',
    -- The row's id: a key, a token, an account, a membership or an organization. Null for all rows.
    subject         uuid,
    -- Every transaction before this one had ended.
    horizon         bigint      not null
                    default pg_snapshot_xmin(pg_current_snapshot())::text::bigint,
    created_at      timestamptz not null default clock_timestamp(),
    constraint credential_changes_pkey primary key (transaction_id, id)
) with (vacuum_truncate = off);
-- What a sweep looks for.
create index credential_changes_created_at_idx on credential_changes (created_at);

-- One row, which recovery after a crash removes, as does a promotion or a restored backup: after
-- those, the ids of transactions whose end was not written yet are assigned again.
create unlogged table database_epochs (
    subject uuid not null,
    constraint database_epochs_pkey primary key (subject)
);
create unique index database_epochs_one_key on database_epochs ((true));
insert into database_epochs (subject) values (gen_random_uuid());

-- Row-level security (0016). No tenant reads or writes entries: the trigger's function runs as the
-- owner.
alter table credential_changes enable row level security;
alter table credential_changes force row level security;
create policy credential_changes_tenant on credential_changes to tenantry_tenant
    using ((organization_id = (select tenant_organization())) is true)
    with check (organization_id = tenant_organization());
do $$
begin
    execute 'create policy credential_changes_system on credential_changes to current_user '
            'using (true) with check (true)';
end
$$;

-- The arguments name the columns with the ids of what changed.
do $migration$
begin
    execute format($definition$
create function %1$I.credential_changed() returns trigger
language plpgsql security definer set search_path to pg_catalog, pg_temp as $body$
begin
    if tg_level = 'STATEMENT'::text then
        insert into %1$I.credential_changes default values;
        return null;
    end if;
    insert into %1$I.credential_changes (organization_id, subject)
        select distinct coalesce(changed ->> 'organization_id'::text,
                                 '00000000-0000-0000-0000-000000000000'::text)::uuid,
                        (changed ->> name)::uuid
        from unnest(array[to_jsonb(old), to_jsonb(new)]) as r (changed), unnest(tg_argv) as n (name)
        where changed ->> name is not null;
    return null;
end
$body$;

revoke all on function %1$I.credential_changed() from public;
$definition$, current_schema());
end
$migration$;

-- A new key, token, account, membership or organization makes no kept answer wrong, because nothing
-- unknown is kept. A use of a credential and a sign-in set none of these columns.
create trigger credential_changed
    after update of allowed_ips, created_at, digest, display_id, enabled, expires_at, external_id,
        id, limits, metadata, metered_key_id, name, organization_id, pepper_id, prefix, revoked_at,
        scopes, superseded_at, user_id or delete on api_keys
    for each row execute function credential_changed('id');
create trigger credential_changed
    after update of account_id, created_at, digest, display_id, expires_at, id, name, pepper_id,
        pinned_seat, pinned_to, prefix, revoked_at, scopes or delete on personal_tokens
    for each row execute function credential_changed('id');
create trigger credential_changed
    after update of deleted_at, email, home_organization_id, id, is_active or delete on accounts
    for each row execute function credential_changed('id');
-- A token's membership is not known by its id everywhere.
create trigger credential_changed
    after update of account_id, handle, id, organization_id, removed_at, role or delete on users
    for each row execute function credential_changed('id', 'account_id');
create trigger credential_changed
    after update of allowed_origins, deleted_at, external_id, handle, id, limits, metadata, name,
        plan, suspended_at or delete on organizations
    for each row execute function credential_changed('id');
-- Answers about credentials with a balance are not kept. A new balance is one for a key or an
-- organization without.
create trigger credential_changed
    after insert or update of id on credit_balances
    for each row execute function credential_changed('id');

create trigger credential_truncated after truncate on api_keys
    for each statement execute function credential_changed();
create trigger credential_truncated after truncate on personal_tokens
    for each statement execute function credential_changed();
create trigger credential_truncated after truncate on accounts
    for each statement execute function credential_changed();
create trigger credential_truncated after truncate on users
    for each statement execute function credential_changed();
create trigger credential_truncated after truncate on organizations
    for each statement execute function credential_changed();

-- Also where a replica of another database applies its changes.
do $$
declare
    watched record;
begin
    for watched in select tgrelid::regclass as of, tgname as name from pg_trigger
                   where tgname in ('credential_changed', 'credential_truncated') loop
        execute format('alter table %s enable always trigger %I', watched.of, watched.name);
    end loop;
end
$$;
