//! Refused requests, gathered in memory and written down in batches for the organizations that
//! were refused: no refusal waits for a write, and a flood of them is not a second flood in the
//! table. What does not fit is counted, not kept.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use metrics::counter;

use crate::app::database::Database;
use crate::error::{Error, ErrorKind, Result};
use crate::model::ids::OrganizationId;
use crate::model::rejection::Rejection;
use crate::repo::rejections;

/// How many denials are kept between two flushes.
const MAX_PENDING: usize = 1_000;
/// How many of them may be one organization's: one alone can not crowd the others out.
const MAX_PER_ORGANIZATION: usize = 50;

/// Gathers denials; cheap to clone.
#[derive(Clone)]
pub struct Rejections(Arc<Inner>);

struct Inner {
    db: Database,
    pending: Mutex<Pending>,
    /// One flush at a time: who waits for it then finds its own denials written.
    flushing: tokio::sync::Mutex<()>,
}

/// What is not written down yet.
#[derive(Default)]
struct Pending {
    batch: Vec<(OrganizationId, Rejection)>,
    per_organization: HashMap<OrganizationId, usize>,
}

impl Rejections {
    /// Denials that are written to `db`.
    #[must_use]
    pub fn new(db: Database) -> Self {
        let (pending, flushing) = (Mutex::default(), tokio::sync::Mutex::default());
        Self(Arc::new(Inner { db, pending, flushing }))
    }

    /// Notes one refused request of the organization's, where there is room for it.
    pub fn record(&self, organization: OrganizationId, rejection: impl FnOnce() -> Rejection) {
        self.0.pending().add(organization, rejection);
    }

    /// Writes down what was noted so far. What could not be written while the database was away or
    /// overloaded is kept for the next time, within the same bounds as everything that is noted.
    ///
    /// It runs on even if whoever waits for it goes away: others' denials are in the batch, too.
    pub async fn flush(&self) -> Result<()> {
        let noted = Arc::clone(&self.0);
        tokio::spawn(async move { noted.write().await }).await.map_err(Error::internal)?
    }

    /// Flushes; a failure is for the log.
    pub async fn flush_and_log(&self) {
        if let Err(error) = self.flush().await {
            tracing::warn!(cause = %error.cause(), "denials not written; will retry");
        }
    }
}

impl Inner {
    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn write(&self) -> Result<()> {
        let _turn = self.flushing.lock().await;
        let Pending { batch, per_organization: of_one } = std::mem::take(&mut *self.pending());
        if batch.is_empty() {
            return Ok(());
        }
        let organizations: Vec<_> = of_one.into_keys().collect();
        let done = self.db.transaction(async |tx| {
            rejections::insert(tx, &batch).await?;
            rejections::trim(tx, &organizations).await
        });
        let done = done.await.map(|_| ());
        match &done {
            Ok(()) => count_outcome("written", batch.len()),
            Err(error) if *error.kind() == ErrorKind::Unavailable => self.requeue(batch),
            Err(_) => count_outcome("lost", batch.len()),
        }
        done
    }

    /// Puts back what could not be written, before what was noted since.
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
        let of_one = self.per_organization.get(&organization).copied().unwrap_or(0);
        if self.batch.len() >= MAX_PENDING || of_one >= MAX_PER_ORGANIZATION {
            return count_outcome("left_out", 1);
        }
        self.per_organization.insert(organization, of_one + 1);
        self.batch.push((organization, rejection()));
    }
}

fn count_outcome(outcome: &'static str, rejections: usize) {
    let rejections = u64::try_from(rejections).unwrap_or(u64::MAX);
    counter!("denials_total", "outcome" => outcome).increment(rejections);
}
