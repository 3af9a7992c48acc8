//! Checks whether the database is ready for this server. Concurrent checks share one query, because
//! clients may call the readiness endpoint without a credential and at any rate.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use metrics::gauge;
use sqlx::PgConnection;

use crate::app::batch_lookup::{BatchLookup, BatchQuery};
use crate::app::database::Database;
use crate::error::{Error, Result};
use crate::repo::{catalog, migrations, tenant_access};

/// The number of batches that may run at once.
pub const CONNECTIONS: u32 = 1;
/// The time after a successful check of the tenant isolation in which it is not checked again.
const RECHECK_AFTER: Duration = Duration::from_secs(2);

/// The status of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatabaseStatus {
    /// It accepts reads and writes.
    Ready,
    /// It accepts reads only: it is read-only, or its disk is full.
    ReadOnly,
}

/// Checks the status of the database.
pub struct Readiness {
    lookup: BatchLookup<ReadinessQuery>,
    /// The pool that writes go through, which knows whether the disk is full.
    write_pool: Database,
    /// When a check of the tenant isolation last succeeded.
    last_checked: Mutex<Option<Instant>>,
}

impl Readiness {
    /// Starts the worker, which stops when this is dropped. Checks query `lookups`; writes go
    /// through `write_pool`.
    #[must_use]
    pub fn start(lookups: &Database, write_pool: Database) -> Self {
        let lookup = BatchLookup::start(lookups, CONNECTIONS, ());
        Self { lookup, write_pool, last_checked: Mutex::default() }
    }

    /// Returns the status of the database.
    ///
    /// # Errors
    /// Unavailable if the database is unreachable, its schema is not the one that this server
    /// needs, or the role, policies or privileges of row-level security are missing.
    pub async fn check(&self) -> Result<DatabaseStatus> {
        let last_checked = *self.last_checked.lock().unwrap_or_else(PoisonError::into_inner);
        let access = last_checked.is_none_or(|at| at.elapsed() > RECHECK_AFTER);
        let answer = self.lookup.query(ReadinessQuery { access }).await?;
        let answer = answer.ok_or_else(|| Error::unavailable("no answer"))?;
        if !answer.is_current {
            return Err(Error::unavailable("migrations are missing"));
        }
        if access {
            let is_complete = answer.missing.is_empty();
            let checked = is_complete.then(Instant::now);
            *self.last_checked.lock().unwrap_or_else(PoisonError::into_inner) = checked;
            if !is_complete {
                let missing = answer.missing.join("; ");
                return Err(Error::unavailable(format!("tenantry migrate is needed: {missing}")));
            }
        }
        let is_read_only = answer.is_read_only || self.write_pool.is_disk_full();
        Ok(if is_read_only { DatabaseStatus::ReadOnly } else { DatabaseStatus::Ready })
    }

    /// Checks whether a full disk still is full, and updates the metric `database_read_only`.
    pub async fn watch(&self) {
        if self.write_pool.is_disk_full() {
            let written =
                self.write_pool.transaction(async |tx| catalog::try_write(tx).await).await;
            match written {
                Ok(true) => tracing::info!("the database's disk is no longer full"),
                Ok(false) => tracing::debug!("could not test the disk; the next write will"),
                Err(_) => {}
            }
            if written.is_ok() {
                self.write_pool.clear_disk_full();
            }
        }
        let is_read_only = matches!(self.check().await, Ok(DatabaseStatus::ReadOnly));
        gauge!("database_read_only").set(f64::from(u8::from(is_read_only)));
    }
}

/// One readiness check.
struct ReadinessQuery {
    /// Whether the tenant isolation is checked, too.
    access: bool,
}

struct ReadinessAnswer {
    is_current: bool,
    is_read_only: bool,
    missing: Vec<&'static str>,
}

impl BatchQuery for ReadinessQuery {
    type Answer = ReadinessAnswer;
    type Shared = ();
    const NAME: &'static str = "readiness";

    async fn answer(
        db: &mut PgConnection,
        (): &(),
        queries: &[Self],
    ) -> Result<Vec<Option<ReadinessAnswer>>> {
        let (is_current, is_read_only) = migrations::status(db).await?;
        let access = is_current && queries.iter().any(|query| query.access);
        let missing = if access { tenant_access::list_missing(db).await? } else { Vec::new() };
        let answer =
            |_| Some(ReadinessAnswer { is_current, is_read_only, missing: missing.clone() });
        Ok(queries.iter().map(answer).collect())
    }
}
