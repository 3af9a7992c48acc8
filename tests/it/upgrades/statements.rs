//! Servers of the previous version work with the new schema: their statements are valid, columns
//! have the types that they expect, and columns that they do not know may be left out.
//!
//! `statements.json` is written by `.ci/statements-of`, with the commits of the previous version
//! (here the last ones before migration 0025 and 0026: 8d1b871 and c9bdf81).

use std::collections::BTreeMap;

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Column, Executor, SqlSafeStr, Statement, TypeInfo};
use tenantry::repo::online_migrations;

use super::OldDatabase;
use crate::support::run;

/// The last migration of the previous version.
const BEFORE: i64 = 25;

fn old_statements() -> BTreeMap<String, Vec<String>> {
    serde_json::from_str(include_str!("statements.json")).unwrap()
}

#[tokio::test]
async fn the_new_schema_accepts_every_statement_of_the_previous_version() {
    run(async |app| {
        let statements = old_statements();
        assert!(statements.len() > 150);
        let mut db = app.connect().await;
        for (statement, types) in &statements {
            let prepared = db.prepare(AssertSqlSafe(&**statement).into_sql_str()).await;
            let prepared = prepared.unwrap_or_else(|error| panic!("{statement}: {error}"));
            let columns = prepared.columns().iter();
            let rows: Vec<_> = columns.map(|column| column.type_info().name()).collect();
            assert_eq!(&rows, types, "{statement}");
        }
    })
    .await;
}

/// The statements that the tenant role may run. `explain` checks privileges, which `prepare` does
/// not.
async fn allowed(db: &mut PgConnection, statements: &[String]) -> Vec<String> {
    let set = "set role tenantry_tenant; set plan_cache_mode = force_generic_plan";
    sqlx::raw_sql(set).execute(&mut *db).await.unwrap();
    let mut allowed = Vec::new();
    for statement in statements {
        let parameters = (1..=40).rev().find(|it| statement.contains(&format!("${it}")));
        let nulls = vec!["null"; parameters.unwrap_or(0)].join(", ");
        let values = if nulls.is_empty() { nulls } else { format!("({nulls})") };
        let sql = format!("prepare s as {statement}; explain execute s{values}; deallocate s");
        let explained = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *db).await;
        match explained {
            Ok(_) => allowed.push(statement.clone()),
            Err(_) => drop(sqlx::raw_sql("deallocate s").execute(&mut *db).await),
        }
    }
    sqlx::raw_sql("reset role").execute(db).await.unwrap();
    allowed
}

#[tokio::test]
async fn the_tenant_role_may_still_run_every_statement_of_the_previous_version() {
    run(async |app| {
        let old = OldDatabase::create(app, "allowed", BEFORE).await;
        let mut db = old.connect_as_superuser().await;
        let statements: Vec<_> = old_statements().into_keys().collect();
        let before = allowed(&mut db, &statements).await;
        assert!(before.len() > 50 && before.len() < statements.len(), "{}", before.len());
        online_migrations::run(&mut old.connect().await).await.unwrap();
        let after = allowed(&mut db, &statements).await;
        let removed: Vec<_> = before.iter().filter(|it| !after.contains(it)).collect();
        assert!(removed.is_empty(), "{removed:#?}");
        old.remove().await;
    })
    .await;
}

/// What the previous version relies on, one line each: columns with their types, unique keys, and
/// privileges of the tenant role.
async fn relied_on(db: &mut PgConnection) -> Vec<String> {
    let columns = "select concat_ws(' ', 'column', c.relname, a.attname,
                                    format_type(a.atttypid, a.atttypmod))
                   from pg_attribute a join pg_class c on c.oid = a.attrelid
                   where c.relnamespace = 'public'::regnamespace and c.relkind = 'r'
                     and a.attnum > 0 and not a.attisdropped
                   union all
                   select concat_ws(' ', 'key', i.indrelid::regclass, c.relname)
                   from pg_index i join pg_class c on c.oid = i.indexrelid
                   where i.indisunique and c.relnamespace = 'public'::regnamespace
                   union all
                   select concat_ws(' ', 'privilege', table_name, column_name, privilege_type)
                   from information_schema.column_privileges where grantee = 'tenantry_tenant'
                   union all
                   select concat_ws(' ', 'privilege', table_name, privilege_type)
                   from information_schema.table_privileges where grantee = 'tenantry_tenant'
                   order by 1";
    sqlx::query_scalar(columns).fetch_all(db).await.unwrap()
}

/// The columns that an insert must set: not null and without a default.
async fn required(db: &mut PgConnection) -> Vec<(String, String)> {
    let required = "select table_name::text, column_name::text from information_schema.columns
                    where table_schema = 'public' and is_nullable = 'NO'
                      and column_default is null and is_identity = 'NO' order by 1, 2";
    sqlx::query_as(required).fetch_all(db).await.unwrap()
}

#[tokio::test]
async fn the_new_schema_keeps_what_the_previous_version_relies_on_and_requires_nothing_new() {
    run(async |app| {
        let old = OldDatabase::create(app, "relied_on", BEFORE).await;
        let mut db = old.connect().await;
        let (before, required_before) = (relied_on(&mut db).await, required(&mut db).await);
        online_migrations::run(&mut db).await.unwrap();
        let (after, required_after) = (relied_on(&mut db).await, required(&mut db).await);
        let removed: Vec<_> = before.iter().filter(|it| !after.contains(it)).collect();
        assert!(before.len() > 200 && removed.is_empty(), "removed: {removed:?}");
        let was_there = |table: &str| before.iter().any(|it| it.contains(&format!(" {table} ")));
        let new = required_after.iter().filter(|it| !required_before.contains(it));
        let new: Vec<_> = new.filter(|(table, _)| was_there(table)).collect();
        assert!(new.is_empty(), "an insert of the previous version does not set {new:?}");
        old.remove().await;
    })
    .await;
}
