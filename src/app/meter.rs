//! Counts authenticated requests in memory and writes them down in batches: no request waits for
//! a write, and one hot key is one row, not one row version a request.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, NaiveDate, Utc};
use metrics::counter;
use sqlx::PgConnection;
use tokio_util::sync::CancellationToken;

use crate::app::database::Database;
use crate::error::{Error, Result};
use crate::model::caller::{Credential, Identity, KeyFacts};
use crate::model::ids::{KeyId, OrganizationId, SessionId};
use crate::model::usage::Tally;
use crate::repo::{personal_tokens, sessions, usage};

/// How far behind the database may be.
const INTERVAL: Duration = Duration::from_secs(5);

/// What was used and is not written down yet.
#[derive(Default)]
struct Pending {
    tallies: HashMap<(KeyId, Option<OrganizationId>, NaiveDate), Tally>,
    /// When each session was last seen.
    seen: HashMap<SessionId, DateTime<Utc>>,
}

/// Counts requests; cheap to clone.
#[derive(Clone)]
pub struct Meter(Arc<Counts>);

struct Counts {
    db: Database,
    pending: Mutex<Pending>,
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

    /// Counts one request, where it was made: in the organization that its path names, or that its
    /// credential acts in. What people do in a session is no usage of an organization's: it only
    /// shows that the session is used.
    pub fn count(
        &self,
        identity: &Identity,
        named: Option<OrganizationId>,
        denied: bool,
        now: DateTime<Utc>,
    ) {
        let (key, is_personal): (&KeyFacts, bool) = match identity.credential() {
            Some(Credential::Key(key, _)) => (key, false),
            Some(Credential::PersonalToken(_, key)) => (key, true),
            Some(Credential::Session(_, session)) => {
                return self.0.pending().seen_at(*session, now);
            }
            None => return,
        };
        self.0.pending().add(Tally {
            organization: named
                .or_else(|| identity.caller.as_ref().map(|caller| caller.organization)),
            key: key.id,
            is_personal,
            day: now.date_naive(),
            requests: 1,
            denied: i64::from(denied),
            last_used_at: now,
        });
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
    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn write(&self) -> Result<()> {
        let _turn = self.flushing.lock().await;
        let Pending { tallies, seen } = std::mem::take(&mut *self.pending());
        let batch: Vec<Tally> = tallies.into_values().collect();
        let seen: Vec<_> = seen.into_iter().collect();
        if batch.is_empty() && seen.is_empty() {
            return Ok(());
        }
        let written = Returned { batch, seen, to: self };
        let done = self.db.transaction(async |tx| written.write(tx).await).await;
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
    seen: Vec<(SessionId, DateTime<Utc>)>,
    to: &'a Counts,
}

impl Returned<'_> {
    /// People's sessions and tokens before organizations' keys, as everywhere.
    async fn write(&self, tx: &mut PgConnection) -> Result<()> {
        if !self.seen.is_empty() {
            sessions::seen(tx, &self.seen).await?;
        }
        let personal: Vec<Tally> =
            self.batch.iter().filter(|tally| tally.is_personal).cloned().collect();
        if !personal.is_empty() {
            personal_tokens::used(tx, &personal).await?;
        }
        usage::add(tx, &self.batch).await
    }

    fn forget(mut self) {
        self.batch.clear();
        self.seen.clear();
    }
}

impl Drop for Returned<'_> {
    fn drop(&mut self) {
        let mut pending = self.to.pending();
        for tally in self.batch.drain(..) {
            pending.add(tally);
        }
        for (session, at) in self.seen.drain(..) {
            pending.seen_at(session, at);
        }
    }
}

impl Pending {
    fn add(&mut self, tally: Tally) {
        match self.tallies.entry((tally.key, tally.organization, tally.day)) {
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

    fn seen_at(&mut self, session: SessionId, at: DateTime<Utc>) {
        let last = self.seen.entry(session).or_insert(at);
        *last = at.max(*last);
    }
}
