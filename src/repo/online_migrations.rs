//! Runs migrations while other servers continue to work.
//!
//! A statement whose lock conflicts with other statements has a short lock timeout and is retried,
//! because every later statement queues behind it while it waits. Statements that take long do not
//! block writes; they are in files whose first line is `-- no-transaction`. All statements of such
//! a file are sent one by one, and each can be repeated: an interrupted file runs again from its
//! start.

use std::fmt;
use std::time::Duration;

use sqlx::error::DatabaseError;
use sqlx::migrate::{Migrate, MigrateError, Migration, Migrator};
use sqlx::{AssertSqlSafe, PgConnection, SqlSafeStr};
use tokio::time::{Instant, sleep};

use super::migrations::MIGRATIONS;

/// The table in which sqlx records the migrations that ran.
const MIGRATIONS_TABLE: &str = "_sqlx_migrations";
/// Sets the lock timeout of statements behind which others would queue.
const SET_LOCK_TIMEOUT: &str = "set lock_timeout = '250ms'";
/// Removes the lock timeout, for statements behind which no others queue.
const REMOVE_LOCK_TIMEOUT: &str = "set lock_timeout = 0";
/// The first and the longest pause before a statement that timed out is retried. During a pause,
/// the statement blocks no others.
const RETRY_PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(4)];
/// The minimum interval of log lines about a migration that waits.
const LOG_INTERVAL: Duration = Duration::from_mins(1);
/// The interval of attempts to get the migration lock.
const LOCK_POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Runs all pending migrations while other servers continue to work. If several programs call this
/// at the same time, one runs the migrations and the others wait, without a limit.
///
/// # Errors
/// A migration fails, was changed after it ran, or ran and is unknown to this binary.
pub async fn run(db: &mut PgConnection) -> Result<(), MigrateError> {
    run_exclusively(db, false).await
}

/// Does the same as [`run`] for a schema that a newer binary may have migrated further.
///
/// # Errors
/// A migration fails, or was changed after it ran.
pub async fn run_ignoring_newer(db: &mut PgConnection) -> Result<(), MigrateError> {
    run_exclusively(db, true).await
}

/// Runs every migration in the first schema of the search path, and records nothing.
pub(super) async fn run_unrecorded(db: &mut PgConnection) -> crate::error::Result<()> {
    for migration in MIGRATIONS.iter() {
        sqlx::raw_sql(in_transaction(migration).sql).execute(&mut *db).await?;
    }
    Ok(())
}

async fn run_exclusively(db: &mut PgConnection, ignore_newer: bool) -> Result<(), MigrateError> {
    lock_migrations(db).await?;
    let ran = run_locked(db, ignore_newer).await;
    // If this fails because the connection is lost, Postgres has released the lock.
    let unlocked = sqlx::raw_sql(REMOVE_LOCK_TIMEOUT).execute(&mut *db).await;
    let unlocked = match unlocked {
        Ok(_) => sqlx::query!("select pg_advisory_unlock(8315162680564640609)").fetch_one(db).await,
        Err(error) => Err(error),
    };
    ran.and(unlocked.map(|_| ()).map_err(MigrateError::from))
}

/// Gets the migration lock by polling. A session that blocks on the lock would have a snapshot, for
/// which the `create index concurrently` of the session that has the lock would wait.
async fn lock_migrations(db: &mut PgConnection) -> Result<(), sqlx::Error> {
    let mut is_logged = false;
    loop {
        let lock = sqlx::query_scalar!(
            r#"select pg_try_advisory_lock(8315162680564640609) as "is_ours!""#
        );
        if lock.fetch_one(&mut *db).await? {
            return Ok(());
        }
        if !is_logged {
            tracing::info!("another program is running migrations; waiting");
            is_logged = true;
        }
        sleep(LOCK_POLL_INTERVAL).await;
    }
}

async fn run_locked(db: &mut PgConnection, ignore_newer: bool) -> Result<(), MigrateError> {
    let applied = applied(db).await?;
    if applied.is_empty() {
        let transactional = MIGRATIONS.iter().map(in_transaction).collect();
        return migrator(transactional, ignore_newer).run(db).await;
    }
    let migrator = migrator(MIGRATIONS.iter().cloned().collect(), ignore_newer);
    for migration in MIGRATIONS.iter() {
        if migration.no_tx && !applied.contains(&migration.version) {
            run_until(db, &migrator, migration.version - 1).await?;
            run_online(db, migration).await?;
        }
    }
    run_until(db, &migrator, i64::MAX).await
}

fn migrator(migrations: Vec<Migration>, ignore_newer: bool) -> Migrator {
    let mut migrator = Migrator::with_migrations(migrations);
    migrator.set_ignore_missing(ignore_newer);
    migrator
}

/// Returns the versions of the migrations that have run.
async fn applied(db: &mut PgConnection) -> Result<Vec<i64>, sqlx::Error> {
    let table_exists =
        sqlx::query_scalar!(r#"select to_regclass('_sqlx_migrations') is not null as "begun!""#);
    if !table_exists.fetch_one(&mut *db).await? {
        return Ok(Vec::new());
    }
    sqlx::query_scalar!("select version from _sqlx_migrations").fetch_all(db).await
}

/// Returns the migration in a form that can run in a transaction, for a schema that is not in use
/// elsewhere.
fn in_transaction(migration: &Migration) -> Migration {
    let mut migration = migration.clone();
    if migration.no_tx {
        migration.no_tx = false;
        let sql = migration.sql.as_str().replace(" concurrently", "");
        migration.sql = AssertSqlSafe(sql).into_sql_str();
    }
    migration
}

/// Runs the pending migrations up to and including this version, each in a transaction. One that
/// does not get its locks within the timeout, or deadlocks, is retried.
async fn run_until(
    db: &mut PgConnection,
    migrator: &Migrator,
    version: i64,
) -> Result<(), MigrateError> {
    let is_migration_busy = |error: &MigrateError| match error {
        MigrateError::ExecuteMigration(error, _) | MigrateError::Execute(error) => is_busy(error),
        _ => false,
    };
    retry_while_busy(db, SET_LOCK_TIMEOUT, is_migration_busy, async |db| {
        let ran = migrator.run_to(version, &mut *db).await;
        if ran.is_err() {
            // sqlx keeps its own advisory lock after a failure. It is released, because a server of
            // the previous version that blocks on it has a snapshot, for which
            // `create index concurrently` would wait.
            let _ = Migrate::unlock(db).await;
        }
        ran
    })
    .await
}

/// Runs the statements of a file one by one, and records that it ran.
async fn run_online(db: &mut PgConnection, migration: &Migration) -> Result<(), MigrateError> {
    let name = format!("{:04} {}", migration.version, migration.description);
    tracing::info!(migration = name, "migration started; it may wait for open transactions");
    for statement in statements(migration.sql.as_str()) {
        let is_non_blocking =
            statement.contains(" concurrently ") || statement.contains(" validate constraint ");
        let lock_timeout = if is_non_blocking { REMOVE_LOCK_TIMEOUT } else { SET_LOCK_TIMEOUT };
        let run = retry_while_busy(db, lock_timeout, is_busy, async |db| {
            drop_invalid_index(db, &statement).await?;
            sqlx::raw_sql(AssertSqlSafe(&*statement)).execute(db).await
        });
        let failed = |error| MigrateError::ExecuteMigration(error, migration.version);
        run.await.map_err(failed)?;
    }
    // Records that the migration ran, without running it again.
    db.skip(MIGRATIONS_TABLE, migration).await
}

/// Returns the statements of a migration. Each ends with a semicolon at the end of a line.
fn statements(sql: &str) -> Vec<String> {
    let lines = sql.lines().filter(|line| !line.trim_start().starts_with("--"));
    let sql = lines.collect::<Vec<_>>().join("\n");
    let statements = sql.split(";\n").map(|it| it.trim().trim_end_matches(';').to_owned());
    statements.filter(|statement| !statement.is_empty()).collect()
}

/// Drops the invalid index that an interrupted `create index concurrently` left, if the statement
/// creates an index with the same name.
async fn drop_invalid_index(db: &mut PgConnection, statement: &str) -> Result<(), sqlx::Error> {
    let created = statement.split_once("index concurrently if not exists ");
    let Some(name) = created.and_then(|(_, rest)| rest.split_whitespace().next()) else {
        return Ok(());
    };
    let is_invalid = sqlx::query_scalar!(
        r#"select exists (
               select from pg_index i
               where i.indexrelid = to_regclass($1) and not i.indisvalid) as "is_invalid!""#,
        name,
    );
    if is_invalid.fetch_one(&mut *db).await? {
        let drop = format!("drop index concurrently if exists {name}");
        sqlx::raw_sql(AssertSqlSafe(drop)).execute(db).await?;
    }
    Ok(())
}

/// Repeats `attempt` with this lock timeout until it gets its locks.
async fn retry_while_busy<T, E>(
    db: &mut PgConnection,
    lock_timeout: &'static str,
    is_busy: impl Fn(&E) -> bool,
    mut attempt: impl AsyncFnMut(&mut PgConnection) -> Result<T, E>,
) -> Result<T, E>
where
    E: fmt::Display + From<sqlx::Error>,
{
    let [mut pause, longest] = RETRY_PAUSES;
    let mut logged: Option<Instant> = None;
    loop {
        sqlx::raw_sql(lock_timeout).execute(&mut *db).await?;
        match attempt(db).await {
            Err(error) if is_busy(&error) => {
                if logged.is_none_or(|at| at.elapsed() >= LOG_INTERVAL) {
                    tracing::warn!(%error, "a migration waits for other transactions; will retry");
                    logged = Some(Instant::now());
                }
            }
            result => return result,
        }
        sleep(pause).await;
        pause = longest.min(pause * 2);
    }
}

/// Returns whether another transaction had the lock: `lock_not_available`, `deadlock_detected`.
fn is_busy(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(DatabaseError::code);
    code.is_some_and(|code| ["55P03", "40P01"].contains(&&*code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_of_migrations_outside_transactions_can_be_split_repeated_and_run_online() {
        let mut seen = 0;
        for migration in MIGRATIONS.iter().filter(|migration| migration.no_tx) {
            for statement in statements(migration.sql.as_str()) {
                seen += 1;
                let can_be_repeated = statement.starts_with("alter policy")
                    || statement.contains(" if exists ")
                    || statement.contains(" if not exists ")
                    || statement.contains(" validate constraint ");
                assert!(can_be_repeated && !statement.contains("$$"), "{statement}");
                let builds = statement.contains(" index ") && !statement.contains("using index");
                assert!(!builds || statement.contains(" index concurrently if "), "{statement}");
                assert!(!statement.contains(';'), "{statement}");
            }
            let transactional = in_transaction(migration);
            assert!(!transactional.no_tx && !transactional.sql.as_str().contains("concurrently"));
            assert_eq!(transactional.checksum, migration.checksum);
        }
        assert!(seen > 40, "{seen}");
    }
}
