-- The second wall between tenants. What is done in an organization's name is done by a lesser role,
-- in a transaction that says which organization it is; rows of others are not there for it, whatever
-- a statement asks. Where no organization is said, there is nothing.
do $$
begin
    if not exists (select from pg_roles where rolname = 'tenantry_tenant') then
        begin
            create role tenantry_tenant nologin;
        exception
            -- Another database of the same cluster was faster.
            when duplicate_object or unique_violation then null;
            when insufficient_privilege then
                raise exception 'the role tenantry_tenant is missing: have an administrator run '
                    'create role tenantry_tenant nologin; grant tenantry_tenant to %', current_user;
        end;
    end if;
    if not pg_has_role(current_user, 'tenantry_tenant', 'member') then
        begin
            execute format('grant tenantry_tenant to %I', current_user);
        exception
            when insufficient_privilege then
                raise exception 'have an administrator run: grant tenantry_tenant to %',
                    current_user;
        end;
    end if;
    execute format('grant usage on schema %I to tenantry_tenant', current_schema());
end
$$;

create function tenant_organization() returns uuid language sql stable as $$
    select nullif(current_setting('app.organization_id', true), '')::uuid
$$;

do $$
declare
    walled text;
begin
    foreach walled in array array[
        'api_keys', 'audit_events', 'idempotency_keys', 'invites', 'key_sessions', 'projects',
        'refresh_tokens', 'usage_daily', 'users'
    ] loop
        execute format('alter table %I enable row level security', walled);
        execute format('alter table %I force row level security', walled);
        execute format(
            'create policy %I on %I to tenantry_tenant using (organization_id = '
            'tenant_organization()) with check (organization_id = tenant_organization())',
            walled || '_tenant', walled);
        -- The owner's own statements are those that have no organization yet: who is calling, a
        -- signup, what is swept away.
        execute format('create policy %I on %I to current_user using (true) with check (true)',
                       walled || '_system', walled);
    end loop;
end
$$;

alter table organizations enable row level security;
alter table organizations force row level security;
create policy organizations_tenant on organizations to tenantry_tenant
    using (id = tenant_organization()) with check (id = tenant_organization());
create policy organizations_system on organizations to current_user
    using (true) with check (true);

grant select, insert, update on api_keys, invites, key_sessions, organizations, projects,
    refresh_tokens, users, idempotency_keys to tenantry_tenant;
grant select, insert on audit_events to tenantry_tenant;
grant select on usage_daily to tenantry_tenant;
grant delete on projects to tenantry_tenant;
-- What is a person's, or nobody's, but goes with what is done in an organization.
grant select, update on accounts, sessions, personal_tokens to tenantry_tenant;
grant select, insert, update, delete on outbox to tenantry_tenant;
