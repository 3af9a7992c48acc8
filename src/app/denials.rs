//! Refused requests, gathered in memory and written down in batches for the organizations that
//! were refused: no refusal waits for a write, and a flood of them is not a second flood in the
//! table. What does not fit is counted, not kept.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use metrics::counter;

use crate::app::database::Database;
use crate::error::{Error, Kind, Result};
use crate::model::denial::Denial;
use crate::model::ids::OrganizationId;
use crate::repo::denials;

/// How many denials are kept between two flushes.
const MOST: usize = 1_000;
/// How many of them may be one organization's: one alone can not crowd the others out.
const MOST_OF_ONE: usize = 50;

/// Gathers denials; cheap to clone.
#[derive(Clone)]
pub struct Denials(Arc<Noted>);

struct Noted {
    db: Database,
    pending: Mutex<Pending>,
    /// One flush at a time: who waits for it then finds its own denials written.
    flushing: tokio::sync::Mutex<()>,
}

/// What is not written down yet.
#[derive(Default)]
struct Pending {
    batch: Vec<(OrganizationId, Denial)>,
    of_one: HashMap<OrganizationId, usize>,
}

impl Denials {
    /// Denials that are written to `db`.
    #[must_use]
    pub fn new(db: Database) -> Self {
        let (pending, flushing) = (Mutex::default(), tokio::sync::Mutex::default());
        Self(Arc::new(Noted { db, pending, flushing }))
    }

    /// Notes one refused request of the organization's, where there is room for it.
    pub fn note(&self, organization: OrganizationId, denial: impl FnOnce() -> Denial) {
        self.0.pending().add(organization, denial);
    }

    /// Writes down what was noted so far. What could not be written while the database was away or
    /// overloaded is kept for the next time, within the same bounds as everything that is noted.
    ///
    /// It runs on even if whoever waits for it goes away: others' denials are in the batch, too.
    ///
    /// # Errors
    /// The database's own.
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

impl Noted {
    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn write(&self) -> Result<()> {
        let _turn = self.flushing.lock().await;
        let Pending { batch, of_one } = std::mem::take(&mut *self.pending());
        if batch.is_empty() {
            return Ok(());
        }
        let organizations: Vec<_> = of_one.into_keys().collect();
        let done = self.db.transaction(async |tx| {
            denials::insert(tx, &batch).await?;
            denials::trim(tx, &organizations).await
        });
        let done = done.await.map(|_| ());
        match &done {
            Ok(()) => count("written", batch.len()),
            Err(error) if *error.kind() == Kind::Unavailable => self.keep(batch),
            Err(_) => count("lost", batch.len()),
        }
        done
    }

    /// Puts back what could not be written, before what was noted since.
    fn keep(&self, batch: Vec<(OrganizationId, Denial)>) {
        count("kept", batch.len());
        let mut pending = self.pending();
        let newer = std::mem::take(&mut *pending).batch;
        for (organization, denial) in batch.into_iter().chain(newer) {
            pending.add(organization, || denial);
        }
    }
}

impl Pending {
    fn add(&mut self, organization: OrganizationId, denial: impl FnOnce() -> Denial) {
        let of_one = self.of_one.get(&organization).copied().unwrap_or(0);
        if self.batch.len() >= MOST || of_one >= MOST_OF_ONE {
            return count("left_out", 1);
        }
        self.of_one.insert(organization, of_one + 1);
        self.batch.push((organization, denial()));
    }
}

fn count(outcome: &'static str, denials: usize) {
    let denials = u64::try_from(denials).unwrap_or(u64::MAX);
    counter!("denials_total", "outcome" => outcome).increment(denials);
}
