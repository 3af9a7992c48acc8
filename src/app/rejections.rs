//! Collects rejected requests in memory and writes them in batches for the organizations that made
//! them. No rejection waits for a write, and a flood of requests does not flood the table.
//! Rejections beyond the bounds are counted and dropped.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use metrics::counter;

use crate::app::database::Database;
use crate::error::{Error, ErrorKind, Result};
use crate::model::ids::OrganizationId;
use crate::model::rejection::Rejection;
use crate::repo::rejections;

/// The maximum number of pending rejections between two flushes.
const MAX_PENDING: usize = 1_000;
/// The maximum number of them for one organization, so that it can not displace the others'.
const MAX_PER_ORGANIZATION: usize = 50;

/// Collects rejections; cheap to clone.
#[derive(Clone)]
pub struct Rejections(Arc<Inner>);

struct Inner {
    db: Database,
    pending: Mutex<Pending>,
    /// Allows one flush at a time, so that a caller that waited for it finds its own rejections
    /// written.
    flushing: tokio::sync::Mutex<()>,
}

/// The rejections that are not written yet.
#[derive(Default)]
struct Pending {
    batch: Vec<(OrganizationId, Rejection)>,
    per_organization: HashMap<OrganizationId, usize>,
}

impl Rejections {
    /// Creates a collector that writes to `db`.
    #[must_use]
    pub fn new(db: Database) -> Self {
        let (pending, flushing) = (Mutex::default(), tokio::sync::Mutex::default());
        Self(Arc::new(Inner { db, pending, flushing }))
    }

    /// Records one rejected request of the organization in memory. A request beyond the bounds is
    /// counted and dropped.
    pub fn record(&self, organization: OrganizationId, rejection: impl FnOnce() -> Rejection) {
        self.0.pending().add(organization, rejection);
    }

    /// Writes the pending rejections. If the database is unavailable they are retried by the next
    /// flush, within the same bounds as new ones; after another failure they are lost.
    ///
    /// It continues even if the caller is cancelled: the batch contains other callers' rejections.
    pub async fn flush(&self) -> Result<()> {
        let inner = Arc::clone(&self.0);
        tokio::spawn(async move { inner.write().await }).await.map_err(Error::internal)?
    }

    /// Flushes and logs a failure.
    pub async fn flush_and_log(&self) {
        if let Err(error) = self.flush().await {
            tracing::warn!(cause = %error.cause(), "rejections not written");
        }
    }
}

impl Inner {
    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn write(&self) -> Result<()> {
        let _guard = self.flushing.lock().await;
        let Pending { batch, per_organization } = std::mem::take(&mut *self.pending());
        if batch.is_empty() {
            return Ok(());
        }
        let organizations: Vec<_> = per_organization.into_keys().collect();
        let written = self.db.transaction(async |tx| {
            rejections::insert(tx, &batch).await?;
            rejections::trim(tx, &organizations).await
        });
        let written = written.await.map(|_| ());
        match &written {
            Ok(()) => count_outcome("written", batch.len()),
            Err(error) if *error.kind() == ErrorKind::Unavailable => self.requeue(batch),
            Err(_) => count_outcome("lost", batch.len()),
        }
        written
    }

    /// Puts back rejections that could not be written, before newer ones.
    fn requeue(&self, batch: Vec<(OrganizationId, Rejection)>) {
        count_outcome("kept", batch.len());
        let mut pending = self.pending();
        let newer = std::mem::take(&mut *pending).batch;
        for (organization, rejection) in batch.into_iter().chain(newer) {
            pending.add(organization, || rejection);
        }
    }
}

impl Pending {
    fn add(&mut self, organization: OrganizationId, rejection: impl FnOnce() -> Rejection) {
        let in_organization = self.per_organization.get(&organization).copied().unwrap_or(0);
        if self.batch.len() >= MAX_PENDING || in_organization >= MAX_PER_ORGANIZATION {
            return count_outcome("left_out", 1);
        }
        self.per_organization.insert(organization, in_organization + 1);
        self.batch.push((organization, rejection()));
    }
}

fn count_outcome(outcome: &'static str, rejections: usize) {
    let rejections = u64::try_from(rejections).unwrap_or(u64::MAX);
    counter!("denials_total", "outcome" => outcome).increment(rejections);
}
