-- What keeps tenants apart, each part as the statement that makes it: the role, row-level security,
-- its policies and the role's privileges. Run by the server (repo/tenant_access.rs) and, on a fresh
-- schema, by .ci/prepare, which writes what has to be there to tenant_access_expected.sql.
select statement as "statement!"
from (
    select 1 as phase, 'create role tenantry_tenant nologin' as statement
    from pg_roles where rolname = 'tenantry_tenant'
    union all
    select 2, 'grant tenantry_tenant to current_user'
    from pg_roles
    where rolname = 'tenantry_tenant'
      and pg_has_role(current_user, oid,
              case when current_setting('server_version_num')::int >= 160000 then 'set'
                   else 'member' end)
    union all
    select 3, 'grant usage on schema to tenantry_tenant'
    from pg_roles
    where rolname = 'tenantry_tenant' and has_schema_privilege(oid, current_schema(), 'usage')
    union all
    select 4, format('alter table %I %s row level security', c.relname, verb)
    from pg_class c
    cross join lateral (
        values ('enable', c.relrowsecurity), ('force', c.relforcerowsecurity)
    ) as security (verb, is_on)
    where c.relkind in ('r', 'p') and c.relnamespace = current_schema()::regnamespace and is_on
    union all
    select 5, regexp_replace(
        format('create policy %I on %I as %s for %s to %s', policyname, tablename,
               lower(permissive), lower(cmd), (
                   select string_agg(
                       case when role in ('tenantry_tenant', 'public') then role
                            when pg_has_role(current_user, role, 'usage') then 'current_user'
                            else quote_ident(role) end, ', ' order by role)
                   from unnest(roles) as role))
        || coalesce(' using (' || qual || ')', '')
        || coalesce(' with check (' || with_check || ')', ''),
        '\s+', ' ', 'g')
    from pg_policies where schemaname = current_schema()
    union all
    select 6, format('grant %s on %I to tenantry_tenant', lower(a.privilege_type), c.relname)
    from pg_class c
    cross join lateral aclexplode(c.relacl) a
    join pg_roles r on r.oid = a.grantee and r.rolname = 'tenantry_tenant'
    where c.relkind in ('r', 'p') and c.relnamespace = current_schema()::regnamespace
    union all
    select 7, format('grant %s (%I) on %I to tenantry_tenant', lower(a.privilege_type),
                     t.attname, c.relname)
    from pg_attribute t
    join pg_class c on c.oid = t.attrelid
    cross join lateral aclexplode(t.attacl) a
    join pg_roles r on r.oid = a.grantee and r.rolname = 'tenantry_tenant'
    where c.relkind in ('r', 'p') and c.relnamespace = current_schema()::regnamespace
) as access
order by phase, statement collate "C"
