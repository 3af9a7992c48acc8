//! The rules of the schema, asked of the database's own catalog.

use crate::support::run;

/// Tables that are neither one tenant's nor one person's: these two themselves, and mail that goes
/// to whoever is at an address.
const NO_OWNER: [&str; 4] = ["_sqlx_migrations", "accounts", "organizations", "outbox"];

async fn assert_no_rows(query: &'static str, what: &str) {
    run(async |app| {
        let found: Vec<String> =
            sqlx::query_scalar(query).fetch_all(&mut app.sql().await).await.unwrap();
        assert!(found.is_empty(), "{what}: {found:?}");
    })
    .await;
}

#[tokio::test]
async fn every_foreign_key_has_an_index_that_begins_with_its_columns() {
    assert_no_rows(
        "select c.conname::text from pg_constraint c
         where c.contype = 'f' and c.connamespace = 'public'::regnamespace
           and not exists (
             select from pg_index i
             where i.indrelid = c.conrelid
               and (i.indkey::int2[])[0:cardinality(c.conkey) - 1] @> c.conkey
               and (i.indkey::int2[])[0:cardinality(c.conkey) - 1] <@ c.conkey)",
        "foreign keys without an index",
    )
    .await;
}

#[tokio::test]
async fn every_time_has_a_zone() {
    assert_no_rows(
        "select table_name || '.' || column_name from information_schema.columns
         where table_schema = 'public' and data_type like '%without time zone'",
        "times without a zone",
    )
    .await;
}

#[tokio::test]
async fn every_constraint_is_named_after_its_table() {
    assert_no_rows(
        "select c.conname::text from pg_constraint c join pg_class t on t.oid = c.conrelid
         where c.connamespace = 'public'::regnamespace and t.relname <> '_sqlx_migrations'
           and c.contype <> 't'
           and (c.conname not like t.relname || '\\_%' or c.conname ~ '_(check|key|fkey)\\d+$')",
        "constraints that the database named",
    )
    .await;
}

#[tokio::test]
async fn every_table_has_its_organization_or_its_account() {
    run(async |app| {
        let without: Vec<String> = sqlx::query_scalar(
            "select t.tablename::text from pg_tables t
             join pg_class c on c.relname = t.tablename and c.relnamespace = 'public'::regnamespace
             where t.schemaname = 'public' and c.relpersistence = 'p' and not exists (
                 select from information_schema.columns c
                 where c.table_schema = 'public' and c.table_name = t.tablename
                   and c.column_name in ('organization_id', 'account_id')
                   and c.is_nullable = 'NO')
             order by 1",
        )
        .fetch_all(&mut app.sql().await)
        .await
        .unwrap();
        assert_eq!(without, NO_OWNER);
    })
    .await;
}

#[tokio::test]
async fn a_table_that_may_be_lost_holds_names_of_ours_digests_and_times_only() {
    assert_no_rows(
        "select c.relname || '.' || a.attname from pg_class c
         join pg_attribute a on a.attrelid = c.oid and a.attnum > 0
         where c.relkind = 'r' and c.relpersistence = 'u'
           and (a.attname, a.atttypid::regtype::text) not in (
               ('name', 'text'), ('subject', 'uuid'), ('full_at', 'timestamp with time zone'))",
        "columns of unlogged tables that could hold somebody's data",
    )
    .await;
}

#[tokio::test]
async fn every_tenant_table_has_its_walls() {
    assert_no_rows(
        "select c.relname::text from pg_class c
         where c.relkind = 'r' and c.relnamespace = 'public'::regnamespace
           and (c.relname = 'organizations' or exists (
                select from pg_attribute a where a.attrelid = c.oid
                   and a.attname = 'organization_id' and a.attnotnull)
                or has_any_column_privilege('tenantry_tenant', c.oid, 'select, insert, update'))
           and not (c.relrowsecurity and c.relforcerowsecurity and exists (
                select from pg_policies p
                where p.schemaname = 'public' and p.tablename = c.relname
                  and p.roles = '{tenantry_tenant}' and p.qual like '%tenant_organization()%'
                  and p.with_check is not null))",
        "tenant tables without row-level security",
    )
    .await;
}

#[tokio::test]
async fn what_the_role_of_tenants_may_touch_has_walls_for_it() {
    assert_no_rows(
        "select c.relname::text from pg_class c
         where c.relkind in ('r', 'p', 'v', 'm', 'f')
           and c.relnamespace = 'public'::regnamespace
           and (has_table_privilege('tenantry_tenant', c.oid,
                    'select, insert, update, delete, truncate, references, trigger')
                or has_any_column_privilege('tenantry_tenant', c.oid,
                    'select, insert, update, references'))
           and not (c.relrowsecurity and c.relforcerowsecurity and exists (
                select from pg_policies p
                where p.tablename = c.relname and p.roles = '{tenantry_tenant}'
                  and p.qual like '%tenant_organization()%'))",
        "tables that tenants may touch without walls",
    )
    .await;
    assert_no_rows(
        "select p.policyname::text from pg_policies p
         where not p.roles <@ '{test_owner}'
           and (p.roles <> '{tenantry_tenant}' or p.qual not like '%tenant_organization()%')",
        "policies that let tenants through",
    )
    .await;
}

/// Secrets of people that nothing done in an organization's name asks for.
#[tokio::test]
async fn the_role_of_tenants_reads_no_password() {
    assert_no_rows(
        "select column_name::text from information_schema.columns
         where table_schema = 'public' and column_name like 'password%'
           and has_column_privilege('tenantry_tenant', table_name, column_name, 'select, update')",
        "passwords that tenants may read",
    )
    .await;
}

#[tokio::test]
async fn the_trail_can_be_neither_changed_nor_cut() {
    run(async |app| {
        app.sign_up().await;
        let attempts = [
            "update audit_events set actor = 'nobody'",
            "delete from audit_events",
            "truncate audit_events cascade",
        ];
        for attempt in attempts {
            let refused = sqlx::query(attempt).execute(&mut app.sql().await).await.unwrap_err();
            assert!(refused.to_string().contains("append-only"), "{refused}");
        }
        assert_eq!(app.count("select count(*) from audit_events").await, 1);
    })
    .await;
}
