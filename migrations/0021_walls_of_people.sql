-- Being in the role is not enough: from Postgres 16 on, whoever creates a role administers it, but
-- may not become it.
do $$
declare
    has_set constant boolean := current_setting('server_version_num')::int >= 160000;
begin
    if not pg_has_role(current_user, 'tenantry_tenant',
                       case when has_set then 'set' else 'member' end) then
        begin
            execute format('grant tenantry_tenant to %I', current_user)
                || case when has_set then ' with set true' else '' end;
        exception
            when insufficient_privilege then
                raise exception 'have an administrator run: grant tenantry_tenant to %',
                    current_user;
        end;
    end if;
end
$$;

-- What is a person's, or nobody's, but goes with what is done in an organization, has walls, too:
-- there are its people's rows, and the mails of its invitations.
do $$
declare
    walled text;
begin
    foreach walled in array array['accounts', 'outbox', 'personal_tokens', 'sessions'] loop
        execute format('alter table %I enable row level security', walled);
        execute format('alter table %I force row level security', walled);
        execute format('create policy %I on %I to current_user using (true) with check (true)',
                       walled || '_system', walled);
    end loop;
end
$$;
revoke all on accounts, outbox, personal_tokens, sessions from tenantry_tenant;

-- The default key of an account is one of its home organization's. No password: nothing that is
-- done in an organization's name asks for one.
create policy accounts_tenant on accounts to tenantry_tenant
    using (exists (
        select from users u
        where u.account_id = accounts.id and u.organization_id = tenant_organization()
          and u.removed_at is null))
    with check (home_organization_id = tenant_organization());
grant select (id, home_organization_id, email, name, is_active, deleted_at, default_key_id),
    update (default_key_id) on accounts to tenantry_tenant;

-- Credentials are held, which asks for the right to change some column; changed they are not.
create policy sessions_tenant on sessions to tenantry_tenant
    using (exists (
        select from users u
        where u.account_id = sessions.account_id and u.organization_id = tenant_organization()
          and u.removed_at is null))
    with check (false);
grant select (id, account_id, digest, expires_at, revoked_at), update (id)
    on sessions to tenantry_tenant;
create policy personal_tokens_tenant on personal_tokens to tenantry_tenant
    using (exists (
        select from users u
        where u.account_id = personal_tokens.account_id
          and u.organization_id = tenant_organization() and u.removed_at is null))
    with check (false);
grant select (id, account_id, pinned_to, pinned_seat, digest, pepper_id, prefix, display_id, scopes, expires_at,
              last_used_at, revoked_at), update (id)
    on personal_tokens to tenantry_tenant;

create policy outbox_tenant on outbox to tenantry_tenant
    using (exists (
        select from invites i
        where i.id = outbox.invite_id and i.organization_id = tenant_organization()))
    with check (exists (
        select from invites i
        where i.id = outbox.invite_id and i.organization_id = tenant_organization()));
grant select (id, kind, address, invite_id, dead_at),
    insert (id, kind, address, callback_url, created_at, due_at, invite_id),
    update (id), delete on outbox to tenantry_tenant;
