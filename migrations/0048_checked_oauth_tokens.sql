-- Verifiers check OAuth access tokens. The feed of revocations (0038) names their grants, under
-- whose id verdicts and usage show them, and answers about them are kept (0041).

do $migration$
begin
    execute format($definition$
create or replace function %1$I.revocations_of_accounts() returns trigger
language plpgsql security definer set search_path to pg_catalog, pg_temp as $body$
begin
    insert into %1$I.revocations (organization_id, key_id, type)
        select coalesce(t.pinned_to, old.home_organization_id), t.id, 'key.owner_disabled'::text
        from %1$I.personal_tokens t
        where t.account_id = old.id and t.revoked_at is null
          and (t.expires_at is null or t.expires_at > now());
    if old.is_active and not new.is_active
       or old.deleted_at is null and new.deleted_at is not null then
        insert into %1$I.revocations (organization_id, key_id, type)
            select g.organization_id, g.id, 'key.owner_disabled'::text
            from %1$I.oauth_grants g
            where g.account_id = old.id and g.revoked_at is null and g.organization_id is not null;
    end if;
    return null;
end
$body$;

create or replace function %1$I.revocations_of_memberships() returns trigger
language plpgsql security definer set search_path to pg_catalog, pg_temp as $body$
declare
    event text := case
        when tg_op = 'UPDATE'::text and new.removed_at is null
             and new.account_id = old.account_id then 'key.narrowed'::text
        else 'key.owner_disabled'::text end;
begin
    insert into %1$I.revocations (organization_id, key_id, type)
        select o.id, t.id, event
        from %1$I.personal_tokens t
        join %1$I.accounts a on a.id = t.account_id
        join %1$I.organizations o on o.id = old.organization_id
        where t.account_id = old.account_id and t.revoked_at is null
          and (t.expires_at is null or t.expires_at > now())
          and case when t.pinned_to is null then a.home_organization_id = old.organization_id
                   else t.pinned_seat = old.id end
          and (tg_op <> 'DELETE'::text or o.deleted_at is null);
    insert into %1$I.revocations (organization_id, key_id, type)
        select o.id, g.id, event
        from %1$I.oauth_grants g
        join %1$I.organizations o on o.id = g.organization_id
        where g.organization_id = old.organization_id and g.user_id = old.id
          and g.revoked_at is null and (tg_op <> 'DELETE'::text or o.deleted_at is null);
    return null;
end
$body$;

-- A suspended or deleted organization ends what was granted to its apps in other organizations.
create or replace function %1$I.revocations_of_organizations() returns trigger
language plpgsql security definer set search_path to pg_catalog, pg_temp as $body$
begin
    insert into %1$I.revocations (organization_id, type)
        values (old.id, case
            when new.deleted_at is not null then 'organization.deleted'::text
            when old.suspended_at is null and new.suspended_at is not null
                then 'organization.suspended'::text
            else 'organization.narrowed'::text end);
    if new.deleted_at is not null or old.suspended_at is null and new.suspended_at is not null then
        insert into %1$I.revocations (organization_id, key_id, type)
            select g.organization_id, g.id, 'key.disabled'::text
            from %1$I.oauth_clients c
            join %1$I.oauth_grants g on g.client_id = c.id
            where c.organization_id = old.id and g.revoked_at is null
              and g.organization_id <> old.id;
    end if;
    return null;
end
$body$;

create function %1$I.revocations_of_grants() returns trigger
language plpgsql security definer set search_path to pg_catalog, pg_temp as $body$
begin
    insert into %1$I.revocations (organization_id, key_id, type)
        select o.id, old.id, case
            when tg_op = 'DELETE'::text or new.revoked_at is not null then 'key.revoked'::text
            else 'key.narrowed'::text end
        from %1$I.organizations o
        where o.id = old.organization_id and (tg_op <> 'DELETE'::text or o.deleted_at is null);
    return null;
end
$body$;

create function %1$I.revocations_of_clients() returns trigger
language plpgsql security definer set search_path to pg_catalog, pg_temp as $body$
begin
    insert into %1$I.revocations (organization_id, key_id, type)
        select g.organization_id, g.id, 'key.disabled'::text from %1$I.oauth_grants g
        where g.client_id = old.id and g.revoked_at is null and g.organization_id is not null;
    return null;
end
$body$;

-- One token of several that a grant may have.
create function %1$I.revocations_of_oauth_tokens() returns trigger
language plpgsql security definer set search_path to pg_catalog, pg_temp as $body$
begin
    insert into %1$I.revocations (organization_id, key_id, type)
        select g.organization_id, g.id, 'key.narrowed'::text from %1$I.oauth_grants g
        where g.id = old.grant_id and g.revoked_at is null and g.organization_id is not null;
    return null;
end
$body$;

create function %1$I.revocations_of_sessions() returns trigger
language plpgsql security definer set search_path to pg_catalog, pg_temp as $body$
begin
    insert into %1$I.revocations (organization_id, key_id, type)
        select distinct g.organization_id, g.id, 'key.narrowed'::text
        from %1$I.oauth_access_tokens t
        join %1$I.oauth_grants g on g.id = t.grant_id
        where t.session_id = old.id and t.revoked_at is null and t.expires_at > now()
          and g.revoked_at is null and g.organization_id is not null;
    return null;
end
$body$;

revoke all on function %1$I.revocations_of_grants() from public;
revoke all on function %1$I.revocations_of_clients() from public;
revoke all on function %1$I.revocations_of_oauth_tokens() from public;
revoke all on function %1$I.revocations_of_sessions() from public;
$definition$, current_schema());
end
$migration$;

create trigger revocations_of_grants
    after update of revoked_at, scopes, resources on oauth_grants
    for each row when (
        old.organization_id is not null and old.revoked_at is null and (
            new.revoked_at is not null
            or not new.scopes @> old.scopes
            or not new.resources @> old.resources))
    execute function revocations_of_grants();
create trigger revocations_of_deleted_grants after delete on oauth_grants
    for each row when (old.organization_id is not null and old.revoked_at is null)
    execute function revocations_of_grants();
create trigger revocations_of_clients
    after update of disabled_at on oauth_clients
    for each row when (old.disabled_at is null and new.disabled_at is not null)
    execute function revocations_of_clients();
create trigger revocations_of_oauth_tokens
    after update of revoked_at, scopes, resources, expires_at on oauth_access_tokens
    for each row when (
        old.revoked_at is null and (
            new.revoked_at is not null
            or not new.scopes @> old.scopes
            or not new.resources @> old.resources
            or new.expires_at < old.expires_at))
    execute function revocations_of_oauth_tokens();
create trigger revocations_of_sessions
    after update of revoked_at, expires_at on sessions
    for each row when (
        old.revoked_at is null and (
            new.revoked_at is not null or new.expires_at < old.expires_at))
    execute function revocations_of_sessions();

-- What the checks of verifiers read beside what 0042 lists.
drop trigger credential_changed on oauth_clients;
create trigger credential_changed
    after update of client_id, disabled_at, id, name, organization_id, visibility or delete
        on oauth_clients
    for each row execute function credential_changed('id');
drop trigger credential_changed on oauth_access_tokens;
create trigger credential_changed
    after update of account_id, created_at, digest, expires_at, grant_id, id, resources, revoked_at,
        scopes, session_id or delete on oauth_access_tokens
    for each row execute function credential_changed('id');
alter table oauth_clients enable always trigger credential_changed;
alter table oauth_access_tokens enable always trigger credential_changed;
