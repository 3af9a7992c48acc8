//! The schema: forward-only files, built into the binary.

use sqlx::PgConnection;
use sqlx::migrate::{MigrateError, Migrator};

use crate::error::Result;

static MIGRATIONS: Migrator = sqlx::migrate!();

/// Brings the schema up to date. Replicas that start together take turns.
///
/// # Errors
/// A migration that fails, was changed after it ran, or is newer than this binary.
pub async fn run(db: &mut PgConnection) -> Result<(), MigrateError> {
    MIGRATIONS.run(db).await
}

/// Whether every migration this binary knows has run.
///
/// # Errors
/// The database's own.
pub async fn are_current(db: &mut PgConnection) -> Result<bool> {
    let known: Vec<i64> = MIGRATIONS.iter().map(|migration| migration.version).collect();
    let ran = sqlx::query_scalar!(
        r#"select count(*) as "count!" from _sqlx_migrations where success and version = any($1)"#,
        &known,
    )
    .fetch_one(db)
    .await?;
    Ok(usize::try_from(ran).is_ok_and(|ran| ran == known.len()))
}
