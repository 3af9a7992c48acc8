//! While a schema is migrated, everybody else goes on reading and writing: no lock is waited for in
//! front of them, and indexes are built beside them.

use sqlx::migrate::Migrate;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection};
use tenantry::repo::online_migrations;

use super::{MIGRATIONS, OldDatabase};
use crate::support::waiting::wait_until_async;
use crate::support::{TestApp, run};

/// The newest version whose migrations do not build indexes beside others.
const BEFORE: i64 = 27;
/// Another session waits for a lock of a table.
const WAITS_FOR_TABLE: &str = "select exists (
    select from pg_locks where not granted and locktype = 'relation'
        and database = (select oid from pg_database where datname = current_database()))";
/// An index that is being built waits for transactions that are open.
const WAITS_FOR_TRANSACTIONS: &str = "select exists (
    select from pg_stat_activity where datname = current_database() and wait_event = 'virtualxid'
        and query like 'create%index concurrently%')";

async fn becomes_true(db: &mut PgConnection, question: &'static str) {
    let is_true = async || sqlx::query_scalar(question).fetch_one(&mut *db).await.unwrap();
    wait_until_async(question, is_true).await;
}

/// What servers do all the time: reads and writes of every table, which wait for a lock for as long
/// as their connections do.
async fn work(db: &mut PgConnection) {
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

/// Everything that a migration could leave in another way: indexes, constraints, policies.
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
    let (fresh, upgraded) =
        (schema(&mut app.sql().await).await, schema(&mut old.watch().await).await);
    assert!(fresh.len() > 150);
    assert_eq!(upgraded, fresh);
    let of_keys = "select count(*) from invites where key_id is not null";
    let of_keys: i64 = sqlx::query_scalar(of_keys).fetch_one(&mut old.watch().await).await.unwrap();
    assert_eq!(of_keys, 20);
}

#[tokio::test]
async fn a_migration_that_waits_for_a_lock_blocks_no_other_query() {
    run(async |app| {
        let old = OldDatabase::create(app, "locks", BEFORE).await;
        let (mut watch, mut server, mut long) =
            (old.watch().await, old.connect().await, old.connect().await);
        let mut open = long.begin().await.unwrap();
        // A write of every table that is not over yet.
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
                becomes_true(&mut watch, WAITS_FOR_TABLE).await;
                work(&mut server).await;
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
async fn indexes_are_built_beside_readers_writers_and_servers_that_start() {
    run(async |app| {
        let old = OldDatabase::create(app, "indexes", BEFORE).await;
        let (mut watch, mut server, mut long) =
            (old.watch().await, old.connect().await, old.connect().await);
        let mut open = long.begin_with("begin isolation level repeatable read").await.unwrap();
        sqlx::raw_sql("select from organizations").execute(&mut *open).await.unwrap();
        let (mut first, mut second) = (old.connect().await, old.connect().await);
        let others = async {
            becomes_true(&mut watch, WAITS_FOR_TRANSACTIONS).await;
            work(&mut server).await;
            // As a server of the version before takes turns when it starts.
            server.lock().await.unwrap();
            server.unlock().await.unwrap();
            becomes_true(&mut watch, WAITS_FOR_TRANSACTIONS).await;
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

/// The statements of a migration that are sent one by one.
fn statements(sql: &str) -> Vec<String> {
    let lines = sql.lines().filter(|line| !line.trim_start().starts_with("--"));
    let sql = lines.collect::<Vec<_>>().join("\n");
    sql.split(";\n").map(ToOwned::to_owned).filter(|it| !it.trim().is_empty()).collect()
}

#[tokio::test]
async fn a_migration_may_be_cut_off_after_any_statement_and_runs_again_from_its_start() {
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
async fn a_migration_that_was_cut_off_while_it_built_an_index_is_run_again_from_its_start() {
    run(async |app| {
        let old = OldDatabase::create(app, "cut_off", BEFORE).await;
        let (mut watch, mut long) = (old.watch().await, old.connect().await);
        let mut open = long.begin_with("begin isolation level repeatable read").await.unwrap();
        sqlx::raw_sql("select from organizations").execute(&mut *open).await.unwrap();
        let mut db = old.connect().await;
        let cut = async {
            becomes_true(&mut watch, WAITS_FOR_TRANSACTIONS).await;
            let end = "select pg_terminate_backend(pid) from pg_stat_activity
                       where query like 'create%index concurrently%'
                         and datname = current_database()";
            sqlx::raw_sql(end).execute(&mut watch).await.unwrap();
        };
        let (migrated, ()) = tokio::join!(online_migrations::run(&mut db), cut);
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
