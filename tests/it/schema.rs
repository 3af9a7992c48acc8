//! Rules of the schema, checked in the database's catalog.

use crate::support::run;

/// Tables of no organization or account: the migrator's, `accounts` and `organizations`, and
/// mail, which belongs to an email address.
const NO_OWNER: [&str; 4] = ["_sqlx_migrations", "accounts", "organizations", "outbox"];

async fn assert_no_rows(query: &'static str, what: &str) {
    run(async |app| {
        let rows: Vec<String> =
            sqlx::query_scalar(query).fetch_all(&mut app.connect().await).await.unwrap();
        assert!(rows.is_empty(), "{what}: {rows:?}");
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
async fn every_timestamp_has_a_time_zone() {
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
        "constraints with a generated name",
    )
    .await;
}

#[tokio::test]
async fn every_table_has_an_organization_id_or_an_account_id() {
    run(async |app| {
        let tables: Vec<String> = sqlx::query_scalar(
            "select t.tablename::text from pg_tables t
             join pg_class c on c.relname = t.tablename and c.relnamespace = 'public'::regnamespace
             where t.schemaname = 'public' and c.relpersistence = 'p' and not exists (
                 select from information_schema.columns c
                 where c.table_schema = 'public' and c.table_name = t.tablename
                   and c.column_name in ('organization_id', 'account_id')
                   and c.is_nullable = 'NO')
             order by 1",
        )
        .fetch_all(&mut app.connect().await)
        .await
        .unwrap();
        assert_eq!(tables, NO_OWNER);
    })
    .await;
}

#[tokio::test]
async fn an_unlogged_table_contains_only_limit_names_digests_and_times() {
    assert_no_rows(
        "select c.relname || '.' || a.attname from pg_class c
         join pg_attribute a on a.attrelid = c.oid and a.attnum > 0
         where c.relkind = 'r' and c.relpersistence = 'u'
           and (a.attname, a.atttypid::regtype::text) not in (
               ('name', 'text'), ('subject', 'uuid'), ('full_at', 'timestamp with time zone'))",
        "columns of unlogged tables that could contain personal data",
    )
    .await;
}

#[tokio::test]
async fn every_tenant_table_has_row_level_security() {
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
async fn every_table_that_the_tenant_role_may_access_has_row_level_security() {
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
        "tables that tenants may access without row-level security",
    )
    .await;
    assert_no_rows(
        "select p.policyname::text from pg_policies p
         where not p.roles <@ '{test_owner}'
           and (p.roles <> '{tenantry_tenant}' or p.qual not like '%tenant_organization()%')",
        "policies that do not restrict tenants",
    )
    .await;
}

/// Nothing that is done for an organization needs a password.
#[tokio::test]
async fn the_tenant_role_cannot_read_or_update_passwords() {
    assert_no_rows(
        "select column_name::text from information_schema.columns
         where table_schema = 'public' and column_name like 'password%'
           and has_column_privilege('tenantry_tenant', table_name, column_name, 'select, update')",
        "passwords that tenants may read",
    )
    .await;
}

#[tokio::test]
async fn audit_events_can_be_neither_updated_nor_deleted() {
    run(async |app| {
        app.sign_up().await;
        let attempts = [
            "update audit_events set actor = 'nobody'",
            "delete from audit_events",
            "truncate audit_events cascade",
        ];
        for attempt in attempts {
            let error = sqlx::query(attempt).execute(&mut app.connect().await).await.unwrap_err();
            assert!(error.to_string().contains("append-only"), "{error}");
        }
        assert_eq!(app.count("select count(*) from audit_events").await, 1);
    })
    .await;
}
