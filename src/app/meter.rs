//! Counts authenticated requests in memory and writes them down in batches: no request waits for
//! a write, and one hot key is one row, not one row version a request. After each batch it learns
//! what the organizations in it have used of their month.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, NaiveDate, Utc};
use metrics::counter;
use sqlx::PgConnection;
use tokio_util::sync::CancellationToken;

use crate::app::database::Database;
use crate::app::quotas::{Month, Quotas};
use crate::error::{Error, Result};
use crate::model::caller::{Credential, Identity, KeyDetails};
use crate::model::ids::{KeyId, OrganizationId, SessionId};
use crate::model::usage::{Period, UsageTally};
use crate::repo::{personal_tokens, sessions, usage};

/// How far behind the database may be.
const INTERVAL: Duration = Duration::from_secs(5);

/// What was used and is not written down yet.
#[derive(Default)]
struct Pending {
    tallies: HashMap<(KeyId, Option<OrganizationId>, NaiveDate), UsageTally>,
    /// When each session was last seen.
    seen: HashMap<SessionId, DateTime<Utc>>,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestOutcome {
    /// It was answered, well or not.
    Answered,
    /// Its caller may not do it (403). It counts all the same.
    Rejected,
    /// It came too often, or after the quota was spent (429). It does not count as used.
    Throttled,
}

/// Counts requests; cheap to clone.
#[derive(Clone)]
pub struct Meter(Arc<Inner>);

struct Inner {
    db: Database,
    pending: Mutex<Pending>,
    quotas: Quotas,
    /// One flush at a time: who waits for it then finds its own requests written.
    flushing: tokio::sync::Mutex<()>,
}

impl Meter {
    /// A meter that writes to `db`.
    #[must_use]
    pub fn new(db: Database) -> Self {
        let (pending, flushing) = (Mutex::default(), tokio::sync::Mutex::default());
        Self(Arc::new(Inner { db, pending, quotas: Quotas::default(), flushing }))
    }

    /// Lets in one request of an organization that may make `limit` a month, and counts it against
    /// that. Whoever is let in is [counted](Self::count) when answered.
    ///
    /// # Errors
    /// How many were made, where that is as many as there may be.
    pub fn admit(
        &self,
        organization: OrganizationId,
        limit: u64,
        now: DateTime<Utc>,
    ) -> Result<(), u64> {
        self.0.quotas.admit((organization, Period::month_of(now).start), limit)
    }

    /// Counts one request, where it was made: in the organization that its path names, or that its
    /// credential acts in. What people do in a session is no usage of an organization's: it only
    /// shows that the session is used.
    pub fn count(
        &self,
        identity: &Identity,
        named: Option<OrganizationId>,
        (outcome, was_admitted): (RequestOutcome, bool),
        now: DateTime<Utc>,
    ) {
        let (key, is_personal): (&KeyDetails, bool) = match identity.credential() {
            Some(Credential::Key(key, _)) => (key, false),
            Some(Credential::PersonalToken(_, key)) => (key, true),
            Some(Credential::Session(_, session)) => {
                return self.0.pending().seen_at(*session, now);
            }
            None => return,
        };
        let organization =
            named.or_else(|| identity.caller.as_ref().map(|caller| caller.organization));
        let counts = outcome != RequestOutcome::Throttled;
        if let Some(organization) = organization {
            let month = (organization, Period::month_of(now).start);
            self.0.quotas.adjust(month, was_admitted, counts);
        }
        self.0.pending().add(UsageTally {
            organization,
            key: key.id,
            is_personal,
            day: now.date_naive(),
            requests: i64::from(counts),
            rejected: i64::from(outcome != RequestOutcome::Answered),
            last_used_at: now,
        });
    }

    /// Writes down what was counted so far. What could not be written is kept for the next time.
    ///
    /// It runs on even if whoever waits for it goes away: a batch that is cut off and counted
    /// again could be written twice.
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

impl Inner {
    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn write(&self) -> Result<()> {
        let _turn = self.flushing.lock().await;
        let Pending { tallies, seen } = std::mem::take(&mut *self.pending());
        let batch: Vec<UsageTally> = tallies.into_values().collect();
        let seen: Vec<_> = seen.into_iter().collect();
        if batch.is_empty() && seen.is_empty() {
            return Ok(());
        }
        let written = BatchGuard { batch, seen, to: self };
        let done = self.db.transaction(async |tx| written.write(tx).await).await;
        let outcome = if done.is_ok() { "written" } else { "failed" };
        counter!("usage_flushes_total", "outcome" => outcome).increment(1);
        if done.is_ok() {
            let months = written.months();
            written.mark_written();
            self.quotas.record_written(&months);
            self.refresh_quotas(months).await;
        }
        done
    }

    /// Asks what the organizations of a batch have used in all. In a transaction of its own: keys
    /// are held in that of the batch. Where it fails, what was known is counted on from.
    async fn refresh_quotas(&self, months: HashMap<Month, u64>) {
        let months: Vec<Month> = months.into_keys().collect();
        if months.is_empty() {
            return;
        }
        match self.db.run(async |db| usage::sum_by_month(db, &months).await).await {
            Ok(totals) => self.quotas.set_totals(&totals),
            Err(error) => tracing::warn!(cause = %error.cause(), "used quotas not read"),
        }
    }
}

/// A batch on its way to the database. Dropped before it arrived, it goes back to the pending ones.
struct BatchGuard<'a> {
    batch: Vec<UsageTally>,
    seen: Vec<(SessionId, DateTime<Utc>)>,
    to: &'a Inner,
}

impl BatchGuard<'_> {
    /// People's sessions and tokens before organizations' keys, as everywhere.
    async fn write(&self, tx: &mut PgConnection) -> Result<()> {
        if !self.seen.is_empty() {
            sessions::extend_used(tx, &self.seen).await?;
        }
        let personal: Vec<UsageTally> =
            self.batch.iter().filter(|tally| tally.is_personal).cloned().collect();
        if !personal.is_empty() {
            personal_tokens::record_use(tx, &personal).await?;
        }
        usage::add(tx, &self.batch).await
    }

    /// The requests of each organization in each month.
    fn months(&self) -> HashMap<Month, u64> {
        let mut months = HashMap::new();
        for tally in &self.batch {
            if let Some(organization) = tally.organization {
                let month = (organization, Period::month_containing(tally.day).start);
                *months.entry(month).or_default() += u64::try_from(tally.requests).unwrap_or(0);
            }
        }
        months
    }

    fn mark_written(mut self) {
        self.batch.clear();
        self.seen.clear();
    }
}

impl Drop for BatchGuard<'_> {
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
    fn add(&mut self, tally: UsageTally) {
        match self.tallies.entry((tally.key, tally.organization, tally.day)) {
            Entry::Vacant(place) => {
                place.insert(tally);
            }
            Entry::Occupied(mut place) => {
                let sum = place.get_mut();
                sum.requests += tally.requests;
                sum.rejected += tally.rejected;
                sum.last_used_at = sum.last_used_at.max(tally.last_used_at);
            }
        }
    }

    fn seen_at(&mut self, session: SessionId, at: DateTime<Utc>) {
        let last = self.seen.entry(session).or_insert(at);
        *last = at.max(*last);
    }
}
