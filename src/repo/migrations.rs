//! The schema: forward-only files, built into the binary.

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
    let found = sqlx::query!(
        r#"select count(*) as "ran!",
                  current_setting('transaction_read_only')::boolean as "is_read_only!"
           from _sqlx_migrations where success and version = any($1)"#,
        &known,
    )
    .fetch_one(db)
    .await?;
    let is_current = usize::try_from(found.ran).is_ok_and(|ran| ran == known.len());
    Ok((is_current, found.is_read_only))
}

/// How the schema stands to this binary.
pub struct MigrationProgress {
    /// How many migrations this binary knows.
    pub known: usize,
    /// Those that did not run yet.
    pub pending: Vec<String>,
    /// How many others have run: the database is a newer binary's.
    pub unknown: usize,
    /// Those that ran in another wording than this binary knows.
    pub changed: Vec<String>,
}

impl MigrationProgress {
    /// Whether the schema is exactly this binary's.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.pending.is_empty() && self.unknown == 0 && self.changed.is_empty()
    }
}

/// How far the schema is, without doing anything about it.
pub async fn progress(db: &mut PgConnection) -> Result<MigrationProgress> {
    let has_begun =
        sqlx::query_scalar!(r#"select to_regclass('_sqlx_migrations') is not null as "begun!""#);
    let mut ran = HashMap::new();
    if has_begun.fetch_one(&mut *db).await? {
        let rows = sqlx::query!("select version, checksum from _sqlx_migrations where success");
        let rows = rows.fetch_all(db).await?;
        ran.extend(rows.into_iter().map(|row| (row.version, row.checksum)));
    }
    let mut progress =
        MigrationProgress { known: 0, pending: Vec::new(), unknown: 0, changed: Vec::new() };
    for migration in MIGRATIONS.iter() {
        progress.known += 1;
        let name = || format!("{:04} {}", migration.version, migration.description);
        match ran.remove(&migration.version) {
            None => progress.pending.push(name()),
            Some(checksum) if checksum != *migration.checksum => progress.changed.push(name()),
            Some(_) => {}
        }
    }
    progress.unknown = ran.len();
    Ok(progress)
}
