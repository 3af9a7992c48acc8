//! Whether the database is as this server needs it: asked for all who want to know at once, since
//! anybody may, as often as they like.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use metrics::gauge;
use sqlx::PgConnection;

use crate::app::batch_lookup::{BatchLookup, BatchQuery};
use crate::app::database::Database;
use crate::error::{Error, Result};
use crate::repo::{catalog, migrations, tenant_access};

/// How many batches may be under way at once.
pub const CONNECTIONS: u32 = 1;
/// How long what keeps tenants apart is not looked at again once it was found to be there.
const RECHECK_AFTER: Duration = Duration::from_secs(2);

/// How the database stands to this server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatabaseStatus {
    /// As it has to be.
    Ready,
    /// It answers, and takes no changes: it is read-only, or its disk is full.
    ReadOnly,
}

/// Asks how the database stands to this server.
pub struct Readiness {
    lookup: BatchLookup<ReadinessQuery>,
    /// Whose disk may be full.
    write_pool: Database,
    /// When what keeps tenants apart was last found to be there.
    last_checked: Mutex<Option<Instant>>,
}

impl Readiness {
    /// Starts the worker, which ends when this is dropped. `lookups` is asked, `written` is where
    /// changes go.
    #[must_use]
    pub fn start(lookups: &Database, written: Database) -> Self {
        let lookup = BatchLookup::start(lookups, CONNECTIONS);
        Self { lookup, write_pool: written, last_checked: Mutex::default() }
    }

    /// How the database stands to this server.
    ///
    /// # Errors
    /// Unavailable where the database is away, its schema is not this server's, or the role behind
    /// row-level security, its policies or privileges are missing.
    pub async fn check(&self) -> Result<DatabaseStatus> {
        let looked = *self.last_checked.lock().unwrap_or_else(PoisonError::into_inner);
        let access = looked.is_none_or(|at| at.elapsed() > RECHECK_AFTER);
        let found = self.lookup.query(ReadinessQuery { access }).await?;
        let found = found.ok_or_else(|| Error::unavailable("no answer"))?;
        if !found.is_current {
            return Err(Error::unavailable("migrations are missing"));
        }
        if access {
            let is_whole = found.missing.is_empty();
            let looked = is_whole.then(Instant::now);
            *self.last_checked.lock().unwrap_or_else(PoisonError::into_inner) = looked;
            if !is_whole {
                let missing = found.missing.join("; ");
                return Err(Error::unavailable(format!("tenantry migrate is needed: {missing}")));
            }
        }
        let is_read_only = found.is_read_only || self.write_pool.is_disk_full();
        Ok(if is_read_only { DatabaseStatus::ReadOnly } else { DatabaseStatus::Ready })
    }

    /// Looks whether a disk that was full still is, and counts whether changes are taken.
    pub async fn watch(&self) {
        if self.write_pool.is_disk_full() {
            let tried = self.write_pool.transaction(async |tx| catalog::try_write(tx).await).await;
            match tried {
                Ok(true) => tracing::info!("the database's disk is not full any more"),
                Ok(false) => tracing::debug!("the next change finds out whether the disk is full"),
                Err(_) => {}
            }
            if tried.is_ok() {
                self.write_pool.clear_disk_full();
            }
        }
        let is_read_only = matches!(self.check().await, Ok(DatabaseStatus::ReadOnly));
        gauge!("database_read_only").set(f64::from(u8::from(is_read_only)));
    }
}

/// What is asked of the database: whether it is as it has to be, `access` of tenants included.
struct ReadinessQuery {
    access: bool,
}

struct ReadinessAnswer {
    is_current: bool,
    is_read_only: bool,
    missing: Vec<&'static str>,
}

impl BatchQuery for ReadinessQuery {
    type Answer = ReadinessAnswer;
    const NAME: &'static str = "readiness";

    async fn answer(db: &mut PgConnection, asked: &[Self]) -> Result<Vec<Option<ReadinessAnswer>>> {
        let (is_current, is_read_only) = migrations::status(db).await?;
        let access = is_current && asked.iter().any(|it| it.access);
        let missing = if access { tenant_access::list_missing(db).await? } else { Vec::new() };
        let found =
            |_| Some(ReadinessAnswer { is_current, is_read_only, missing: missing.clone() });
        Ok(asked.iter().map(found).collect())
    }
}
