//! Servers go on reading and writing while a schema is migrated: a migration that waits for a lock
//! does not block them, and indexes are built concurrently.

use sqlx::migrate::Migrate;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection};
use tenantry::repo::online_migrations;

use super::{MIGRATIONS, OldDatabase};
use crate::support::waiting::wait_until_async;
use crate::support::{TestApp, run};

/// The newest version before the migrations that build indexes concurrently.
const BEFORE: i64 = 27;
/// Whether a session waits for a lock on a table.
const WAITS_FOR_TABLE: &str = "select exists (
    select from pg_locks where not granted and locktype = 'relation'
        and database = (select oid from pg_database where datname = current_database()))";
/// Whether an index build waits for open transactions.
const WAITS_FOR_TRANSACTIONS: &str = "select exists (
    select from pg_stat_activity where datname = current_database() and wait_event = 'virtualxid'
        and query like 'create%index concurrently%')";

/// Polls until a query returns true.
async fn wait_until_true(db: &mut PgConnection, condition: &'static str) {
    let is_true = async || sqlx::query_scalar(condition).fetch_one(&mut *db).await.unwrap();
    wait_until_async(condition, is_true).await;
}

/// Reads and writes every table as servers do, with the lock timeout of their connections.
async fn read_and_write_all_tables(db: &mut PgConnection) {
    let tables = "select format('%I', relname) from pg_class
                  where relnamespace = 'public'::regnamespace and relkind = 'r' order by 1";
    let tables: Vec<String> = sqlx::query_scalar(tables).fetch_all(&mut *db).await.unwrap();
    assert!(tables.len() > 20, "{tables:?}");
    sqlx::raw_sql("set lock_timeout = '1s'").execute(&mut *db).await.unwrap();
    for table in tables {
        // The lock that every insert, update and delete takes.
        let sql = format!(
            "begin; select count(*) from {table}; lock table {table} in row exclusive mode; commit"
        );
        let done = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *db).await;
        done.unwrap_or_else(|error| panic!("{table}: {error}"));
    }
    let writes = "update api_keys set last_used_at = now() where name = 'key 7';
                  update invites set email = email; update projects set name = name || 'x'";
    sqlx::raw_sql(writes).execute(db).await.unwrap();
}

/// The indexes, constraints, policies and applied migrations, to compare an upgraded schema with a
/// new one.
async fn schema(db: &mut PgConnection) -> Vec<String> {
    let schema = "select indexdef || ' ' || (select indisvalid from pg_index
                                             where indexrelid = indexname::regclass)
                  from pg_indexes where schemaname = 'public'
                  union all
                  select concat_ws(' ', conrelid::regclass, conname, pg_get_constraintdef(oid))
                  from pg_constraint where connamespace = 'public'::regnamespace
                  union all
                  select concat_ws(' ', tablename, policyname, qual, with_check)
                  from pg_policies where schemaname = 'public'
                  union all
                  select concat_ws(' ', version, description, encode(checksum, 'hex'))
                  from _sqlx_migrations
                  order by 1";
    sqlx::query_scalar(schema).fetch_all(db).await.unwrap()
}

async fn assert_migrated(app: &TestApp, old: &OldDatabase) {
    let (fresh, upgraded) = (
        schema(&mut app.connect().await).await,
        schema(&mut old.connect_as_superuser().await).await,
    );
    assert!(fresh.len() > 150);
    assert_eq!(upgraded, fresh);
    let of_keys = "select count(*) from invites where key_id is not null";
    let of_keys: i64 =
        sqlx::query_scalar(of_keys).fetch_one(&mut old.connect_as_superuser().await).await.unwrap();
    assert_eq!(of_keys, 20);
}

#[tokio::test]
async fn a_migration_that_waits_for_a_lock_blocks_no_other_query() {
    run(async |app| {
        let old = OldDatabase::create(app, "locks", BEFORE).await;
        let (mut watch, mut server, mut long) =
            (old.connect_as_superuser().await, old.connect().await, old.connect().await);
        let mut open = long.begin().await.unwrap();
        // An open transaction that writes every table.
        let write = "do $$ declare t text; begin
                         for t in select format('%I', relname) from pg_class
                             where relnamespace = 'public'::regnamespace and relkind = 'r' loop
                             execute format('lock table %s in row exclusive mode', t);
                         end loop;
                     end $$";
        sqlx::raw_sql(write).execute(&mut *open).await.unwrap();
        let mut db = old.connect().await;
        let others = async {
            for _ in 0..3 {
                wait_until_true(&mut watch, WAITS_FOR_TABLE).await;
                read_and_write_all_tables(&mut server).await;
            }
            open.commit().await.unwrap();
        };
        let (migrated, ()) = tokio::join!(online_migrations::run(&mut db), others);
        migrated.unwrap();
        assert_migrated(app, &old).await;
        old.remove().await;
    })
    .await;
}

#[tokio::test]
async fn indexes_are_built_without_blocking_reads_writes_or_servers_that_start() {
    run(async |app| {
        let old = OldDatabase::create(app, "indexes", BEFORE).await;
        let (mut watch, mut server, mut long) =
            (old.connect_as_superuser().await, old.connect().await, old.connect().await);
        let mut open = long.begin_with("begin isolation level repeatable read").await.unwrap();
        sqlx::raw_sql("select from organizations").execute(&mut *open).await.unwrap();
        let (mut first, mut second) = (old.connect().await, old.connect().await);
        let others = async {
            wait_until_true(&mut watch, WAITS_FOR_TRANSACTIONS).await;
            read_and_write_all_tables(&mut server).await;
            // As a server of the previous version locks when it starts.
            server.lock().await.unwrap();
            server.unlock().await.unwrap();
            wait_until_true(&mut watch, WAITS_FOR_TRANSACTIONS).await;
            open.commit().await.unwrap();
        };
        let (one, other, ()) = tokio::join!(
            online_migrations::run(&mut first),
            online_migrations::run(&mut second),
            others
        );
        one.unwrap();
        other.unwrap();
        assert_migrated(app, &old).await;
        old.remove().await;
    })
    .await;
}

/// The statements of a migration, which are sent one by one.
fn statements(sql: &str) -> Vec<String> {
    let lines = sql.lines().filter(|line| !line.trim_start().starts_with("--"));
    let sql = lines.collect::<Vec<_>>().join("\n");
    sql.split(";\n").map(ToOwned::to_owned).filter(|it| !it.trim().is_empty()).collect()
}

#[tokio::test]
async fn a_migration_that_stops_after_any_statement_can_run_again_from_its_start() {
    run(async |app| {
        let old = OldDatabase::create(app, "any_statement", BEFORE).await;
        let mut db = old.connect().await;
        let in_parts: Vec<_> = MIGRATIONS.iter().filter(|migration| migration.no_tx).collect();
        for migration in &in_parts {
            MIGRATIONS.run_to(migration.version - 1, &mut db).await.unwrap();
            let statements = statements(migration.sql.as_str());
            assert!(statements.len() > 3);
            for cut_off in 1..=statements.len() {
                for statement in &statements[..cut_off] {
                    let ran = sqlx::raw_sql(AssertSqlSafe(&**statement)).execute(&mut db).await;
                    ran.unwrap_or_else(|error| panic!("after {cut_off}: {statement}: {error}"));
                }
            }
            if migration.version != in_parts[in_parts.len() - 1].version {
                db.skip("_sqlx_migrations", migration).await.unwrap();
            }
        }
        online_migrations::run(&mut db).await.unwrap();
        assert_migrated(app, &old).await;
        old.remove().await;
    })
    .await;
}

#[tokio::test]
async fn a_migration_that_fails_while_it_builds_an_index_runs_again_from_its_start() {
    run(async |app| {
        let old = OldDatabase::create(app, "cut_off", BEFORE).await;
        let (mut watch, mut long) = (old.connect_as_superuser().await, old.connect().await);
        let mut open = long.begin_with("begin isolation level repeatable read").await.unwrap();
        sqlx::raw_sql("select from organizations").execute(&mut *open).await.unwrap();
        let mut db = old.connect().await;
        let terminate = async {
            wait_until_true(&mut watch, WAITS_FOR_TRANSACTIONS).await;
            let end = "select pg_terminate_backend(pid) from pg_stat_activity
                       where query like 'create%index concurrently%'
                         and datname = current_database()";
            sqlx::raw_sql(end).execute(&mut watch).await.unwrap();
        };
        let (migrated, ()) = tokio::join!(online_migrations::run(&mut db), terminate);
        migrated.unwrap_err();
        let invalid = "select count(*) from pg_index where not indisvalid";
        let invalid = async |db: &mut PgConnection| -> i64 {
            sqlx::query_scalar(invalid).fetch_one(db).await.unwrap()
        };
        assert_eq!(invalid(&mut watch).await, 1);
        open.commit().await.unwrap();
        online_migrations::run(&mut old.connect().await).await.unwrap();
        assert_eq!(invalid(&mut watch).await, 0);
        assert_migrated(app, &old).await;
        old.remove().await;
    })
    .await;
}
