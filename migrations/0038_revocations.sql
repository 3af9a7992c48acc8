-- What a check of a credential would no longer answer as before: an entry for each key, token or
-- organization that ended or lost permissions, for those who keep answers (VERIFY §3). Entries are
-- written by triggers, in the transaction of the change, so that no statement can forget them.
create table revocations (
    -- Transactions do not commit in the order of their ids, and readers know that: they remember
    -- which ones were running.
    transaction_id  bigint      not null default pg_current_xact_id()::text::bigint,
    id              bigint      generated always as identity,
    organization_id uuid        not null,
    -- The key or the personal access token; null for all of the organization.
    key_id          uuid,
    type            text        not null,
    created_at      timestamptz not null default clock_timestamp(),
    constraint revocations_pkey primary key (transaction_id, id),
    constraint revocations_type_check check (
        type in ('key.revoked', 'key.disabled', 'key.rotated', 'key.narrowed', 'key.owner_disabled',
                 'organization.suspended', 'organization.deleted', 'organization.narrowed')
        and (key_id is null) = (type like 'organization.%'))
);
-- What a sweep looks for.
create index revocations_created_at_idx on revocations (created_at);

-- Row-level security (0016). No tenant reads or writes entries: the triggers' functions run as the
-- owner.
alter table revocations enable row level security;
alter table revocations force row level security;
create policy revocations_tenant on revocations to tenantry_tenant
    using ((organization_id = (select tenant_organization())) is true)
    with check (organization_id = tenant_organization());
do $$
begin
    execute 'create policy revocations_system on revocations to current_user '
            'using (true) with check (true)';
end
$$;

-- Which functions write what; the triggers below say when. A credential that ended before is not
-- named again. What is deleted from a deleted organization was named by its deletion.
do $migration$
begin
    execute format($definition$
create function %1$I.revocations_of_keys() returns trigger
language plpgsql security definer set search_path to pg_catalog, pg_temp as $body$
begin
    if tg_op = 'DELETE'::text then
        insert into %1$I.revocations (organization_id, key_id, type)
            select o.id, old.id, 'key.revoked'::text from %1$I.organizations o
            where o.id = old.organization_id and o.deleted_at is null;
        return null;
    end if;
    insert into %1$I.revocations (organization_id, key_id, type)
        values (old.organization_id, old.id, case
            when new.revoked_at is not null then 'key.revoked'::text
            when old.enabled and not new.enabled then 'key.disabled'::text
            when old.superseded_at is null and new.superseded_at is not null
                then 'key.rotated'::text
            else 'key.narrowed'::text end);
    return null;
end
$body$;

create function %1$I.revocations_of_tokens() returns trigger
language plpgsql security definer set search_path to pg_catalog, pg_temp as $body$
begin
    insert into %1$I.revocations (organization_id, key_id, type)
        select o.id, old.id, case
            when tg_op = 'DELETE'::text or new.revoked_at is not null then 'key.revoked'::text
            else 'key.narrowed'::text end
        from %1$I.accounts a
        join %1$I.organizations o on o.id = coalesce(old.pinned_to, a.home_organization_id)
        where a.id = old.account_id and (tg_op <> 'DELETE'::text or o.deleted_at is null);
    return null;
end
$body$;

-- A token that is pinned to no organization acts in its account's own.
create function %1$I.revocations_of_accounts() returns trigger
language plpgsql security definer set search_path to pg_catalog, pg_temp as $body$
begin
    insert into %1$I.revocations (organization_id, key_id, type)
        select coalesce(t.pinned_to, old.home_organization_id), t.id, 'key.owner_disabled'::text
        from %1$I.personal_tokens t
        where t.account_id = old.id and t.revoked_at is null
          and (t.expires_at is null or t.expires_at > now());
    return null;
end
$body$;

create function %1$I.revocations_of_memberships() returns trigger
language plpgsql security definer set search_path to pg_catalog, pg_temp as $body$
begin
    insert into %1$I.revocations (organization_id, key_id, type)
        select o.id, t.id, case
            when tg_op = 'UPDATE'::text and new.removed_at is null
                 and new.account_id = old.account_id then 'key.narrowed'::text
            else 'key.owner_disabled'::text end
        from %1$I.personal_tokens t
        join %1$I.accounts a on a.id = t.account_id
        join %1$I.organizations o on o.id = old.organization_id
        where t.account_id = old.account_id and t.revoked_at is null
          and (t.expires_at is null or t.expires_at > now())
          and case when t.pinned_to is null then a.home_organization_id = old.organization_id
                   else t.pinned_seat = old.id end
          and (tg_op <> 'DELETE'::text or o.deleted_at is null);
    return null;
end
$body$;

create function %1$I.revocations_of_organizations() returns trigger
language plpgsql security definer set search_path to pg_catalog, pg_temp as $body$
begin
    insert into %1$I.revocations (organization_id, type)
        values (old.id, case
            when new.deleted_at is not null then 'organization.deleted'::text
            when old.suspended_at is null and new.suspended_at is not null
                then 'organization.suspended'::text
            else 'organization.narrowed'::text end);
    return null;
end
$body$;

revoke all on function %1$I.revocations_of_keys() from public;
revoke all on function %1$I.revocations_of_tokens() from public;
revoke all on function %1$I.revocations_of_accounts() from public;
revoke all on function %1$I.revocations_of_memberships() from public;
revoke all on function %1$I.revocations_of_organizations() from public;
$definition$, current_schema());
end
$migration$;

-- A use of a key, a new name or a new digest sets none of these columns, and writes nothing. Where
-- networks or origins are replaced, an entry may be written although the new ones are wider.
create trigger revocations_of_keys
    after update of revoked_at, enabled, superseded_at, scopes, allowed_ips, expires_at on api_keys
    for each row when (
        old.revoked_at is null and (
            new.revoked_at is not null
            or old.enabled and not new.enabled
            or old.superseded_at is null and new.superseded_at is not null
            or not new.scopes @> old.scopes
            or new.allowed_ips <> '{}'
               and (old.allowed_ips = '{}' or not new.allowed_ips @> old.allowed_ips)
            or coalesce(new.expires_at, 'infinity') < coalesce(old.expires_at, 'infinity')))
    execute function revocations_of_keys();
create trigger revocations_of_deleted_keys after delete on api_keys
    for each row when (
        old.revoked_at is null and (old.expires_at is null or old.expires_at > now()))
    execute function revocations_of_keys();

create trigger revocations_of_tokens
    after update of revoked_at, scopes, expires_at, pinned_to, pinned_seat on personal_tokens
    for each row when (
        old.revoked_at is null and (
            new.revoked_at is not null
            or not new.scopes @> old.scopes
            or coalesce(new.expires_at, 'infinity') < coalesce(old.expires_at, 'infinity')
            or new.pinned_to is distinct from old.pinned_to
            or new.pinned_seat is distinct from old.pinned_seat))
    execute function revocations_of_tokens();
create trigger revocations_of_deleted_tokens after delete on personal_tokens
    for each row when (
        old.revoked_at is null and (old.expires_at is null or old.expires_at > now()))
    execute function revocations_of_tokens();

create trigger revocations_of_accounts
    after update of is_active, deleted_at, home_organization_id on accounts
    for each row when (
        old.is_active and not new.is_active
        or old.deleted_at is null and new.deleted_at is not null
        or new.home_organization_id is distinct from old.home_organization_id)
    execute function revocations_of_accounts();

create trigger revocations_of_memberships
    after update of removed_at, account_id, role on users
    for each row when (
        old.account_id is not null and old.removed_at is null and (
            new.removed_at is not null
            or new.account_id is distinct from old.account_id
            -- A lower role, or one that is unknown here.
            or new.role <> old.role
               and (array_position(array['member', 'admin', 'owner'], new.role)
                    > array_position(array['member', 'admin', 'owner'], old.role)) is not true))
    execute function revocations_of_memberships();
create trigger revocations_of_deleted_memberships after delete on users
    for each row when (old.account_id is not null and old.removed_at is null)
    execute function revocations_of_memberships();

create trigger revocations_of_organizations
    after update of suspended_at, deleted_at, allowed_origins on organizations
    for each row when (
        old.deleted_at is null and (
            new.deleted_at is not null
            or old.suspended_at is null and new.suspended_at is not null
            or new.allowed_origins <> '{}'
               and (old.allowed_origins = '{}' or not new.allowed_origins @> old.allowed_origins)))
    execute function revocations_of_organizations();
