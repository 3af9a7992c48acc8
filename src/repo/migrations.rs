//! The migrations, which are built into the binary, and the state of a database's schema.

use std::collections::HashMap;

use sqlx::PgConnection;
use sqlx::migrate::Migrator;

use crate::error::Result;

pub(super) static MIGRATIONS: Migrator = sqlx::migrate!();

/// Returns whether the database is read-only.
pub async fn is_read_only(db: &mut PgConnection) -> Result<bool> {
    let is_read_only = sqlx::query_scalar!(
        r#"select current_setting('transaction_read_only')::boolean as "is_read_only!""#
    );
    Ok(is_read_only.fetch_one(db).await?)
}

/// Returns whether every migration of this binary has run, and whether the database is read-only.
pub async fn status(db: &mut PgConnection) -> Result<(bool, bool)> {
    let known: Vec<i64> = MIGRATIONS.iter().map(|migration| migration.version).collect();
    let row = sqlx::query!(
        r#"select count(*) as "ran!",
                  current_setting('transaction_read_only')::boolean as "is_read_only!"
           from _sqlx_migrations where success and version = any($1)"#,
        &known,
    )
    .fetch_one(db)
    .await?;
    let is_current = usize::try_from(row.ran).is_ok_and(|ran| ran == known.len());
    Ok((is_current, row.is_read_only))
}

/// The state of a schema, compared with the migrations of this binary.
pub struct MigrationProgress {
    /// The number of migrations that this binary knows.
    pub known: usize,
    /// The migrations that have not run yet.
    pub pending: Vec<String>,
    /// The number of other migrations that have run. If there are any, a newer binary migrated the
    /// schema.
    pub unknown: usize,
    /// The migrations that ran with another text than this binary has.
    pub changed: Vec<String>,
}

impl MigrationProgress {
    /// Returns whether the schema is the one of this binary.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.pending.is_empty() && self.unknown == 0 && self.changed.is_empty()
    }
}

/// Returns the state of the schema. Changes nothing.
pub async fn progress(db: &mut PgConnection) -> Result<MigrationProgress> {
    let table_exists =
        sqlx::query_scalar!(r#"select to_regclass('_sqlx_migrations') is not null as "begun!""#);
    let mut applied = HashMap::new();
    if table_exists.fetch_one(&mut *db).await? {
        let rows = sqlx::query!("select version, checksum from _sqlx_migrations where success");
        let rows = rows.fetch_all(db).await?;
        applied.extend(rows.into_iter().map(|row| (row.version, row.checksum)));
    }
    let mut progress =
        MigrationProgress { known: 0, pending: Vec::new(), unknown: 0, changed: Vec::new() };
    for migration in MIGRATIONS.iter() {
        progress.known += 1;
        let name = || format!("{:04} {}", migration.version, migration.description);
        match applied.remove(&migration.version) {
            None => progress.pending.push(name()),
            Some(checksum) if checksum != *migration.checksum => progress.changed.push(name()),
            Some(_) => {}
        }
    }
    progress.unknown = applied.len();
    Ok(progress)
}
