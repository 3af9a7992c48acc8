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
