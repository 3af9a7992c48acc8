//! Counts authenticated requests in memory and writes them down in batches: no request waits for
//! a write, and one hot key is one row, not one row version a request.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, NaiveDate, Utc};
use metrics::counter;
use tokio_util::sync::CancellationToken;

use crate::app::database::Database;
use crate::error::{Error, Result};
use crate::model::caller::Caller;
use crate::model::ids::KeyId;
use crate::model::usage::Tally;
use crate::repo::usage;

/// How far behind the database may be.
const INTERVAL: Duration = Duration::from_secs(5);

type Tallies = HashMap<(KeyId, NaiveDate), Tally>;

/// Counts requests; cheap to clone.
#[derive(Clone)]
pub struct Meter(Arc<Counts>);

struct Counts {
    db: Database,
    pending: Mutex<Tallies>,
    /// One flush at a time: who waits for it then finds its own requests written.
    flushing: tokio::sync::Mutex<()>,
}

impl Meter {
    /// A meter that writes to `db`.
    #[must_use]
    pub fn new(db: Database) -> Self {
        let (pending, flushing) = (Mutex::default(), tokio::sync::Mutex::default());
        Self(Arc::new(Counts { db, pending, flushing }))
    }

    /// Counts one request of `caller`.
    pub fn count(&self, caller: &Caller, denied: bool, now: DateTime<Utc>) {
        let tally = Tally {
            organization: caller.organization,
            key: caller.key,
            day: now.date_naive(),
            requests: 1,
            denied: i64::from(denied),
            last_used_at: now,
        };
        merge(&mut self.0.pending.lock().unwrap_or_else(PoisonError::into_inner), tally);
    }

    /// Writes down what was counted so far. What could not be written is kept for the next time.
    ///
    /// It runs on even if whoever waits for it goes away: a batch that is cut off and counted
    /// again could be written twice.
    ///
    /// # Errors
    /// The database's own.
    pub async fn flush(&self) -> Result<()> {
        let counts = Arc::clone(&self.0);
        tokio::spawn(async move { counts.write().await }).await.map_err(Error::internal)?
    }

    /// Flushes every few seconds until `stop` is cancelled, and once more then.
    pub async fn run(&self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            self.flush_and_log().await;
        }
        self.flush_and_log().await;
    }

    /// Flushes; a failure is for the log.
    pub async fn flush_and_log(&self) {
        if let Err(error) = self.flush().await {
            tracing::warn!(cause = %error.cause(), "usage not written, kept for the next time");
        }
    }
}

impl Counts {
    async fn write(&self) -> Result<()> {
        let _turn = self.flushing.lock().await;
        let batch: Vec<Tally> = {
            let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *pending).into_values().collect()
        };
        if batch.is_empty() {
            return Ok(());
        }
        let written = Returned { batch, to: &self.pending };
        let done = self.db.transaction(async |tx| usage::add(tx, &written.batch).await).await;
        let outcome = if done.is_ok() { "written" } else { "failed" };
        counter!("usage_flushes_total", "outcome" => outcome).increment(1);
        if done.is_ok() {
            written.forget();
        }
        done
    }
}

/// A batch on its way to the database. Dropped before it arrived, it goes back to the pending ones.
struct Returned<'a> {
    batch: Vec<Tally>,
    to: &'a Mutex<Tallies>,
}

impl Returned<'_> {
    fn forget(mut self) {
        self.batch.clear();
    }
}

impl Drop for Returned<'_> {
    fn drop(&mut self) {
        let mut pending = self.to.lock().unwrap_or_else(PoisonError::into_inner);
        for tally in self.batch.drain(..) {
            merge(&mut pending, tally);
        }
    }
}

fn merge(tallies: &mut Tallies, tally: Tally) {
    match tallies.entry((tally.key, tally.day)) {
        Entry::Vacant(place) => {
            place.insert(tally);
        }
        Entry::Occupied(mut place) => {
            let sum = place.get_mut();
            sum.requests += tally.requests;
            sum.denied += tally.denied;
            sum.last_used_at = sum.last_used_at.max(tally.last_used_at);
        }
    }
}
