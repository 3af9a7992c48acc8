-- Creates the role that row-level security applies to, and permits the current role to set it, as
-- far as the privileges of the current role suffice.
do $$
declare
    has_set constant boolean := current_setting('server_version_num')::int >= 160000;
begin
    if not exists (select from pg_roles where rolname = 'tenantry_tenant') then
        begin
            create role tenantry_tenant nologin;
        exception
            when duplicate_object or unique_violation then null;
            when insufficient_privilege then
                raise exception 'the role tenantry_tenant is missing: have an administrator run '
                    'create role tenantry_tenant nologin; grant tenantry_tenant to %', current_user;
        end;
    end if;
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
    execute format('grant usage on schema %I to tenantry_tenant', current_schema());
end
$$;
