//! Counts authenticated requests, and the checks of verifiers, in memory and writes the counts in
//! batches. No request waits for a write, and a busy key updates its row once per batch, not once
//! per request. After each batch the meter reads the monthly usage of the organizations in it.

mod pending;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use foldhash::HashMap;
use metrics::counter;
use sqlx::PgConnection;
use tokio_util::sync::CancellationToken;

use self::pending::{KeyUse, Pending, UseOfKey, tallies_by_day};
use crate::app::database::Database;
use crate::app::quotas::{Month, Quotas};
use crate::error::{Error, Result};
use crate::model::attribution::{AttributedUsage, Attribution};
use crate::model::caller::{Credential, Identity};
use crate::model::ids::{KeyId, OrganizationId, SessionId};
use crate::model::usage::{Period, UsageTally, UsedCredential, hour_of};
use crate::repo::{oauth_callers, personal_tokens, sessions, usage, usage_hourly};

/// How often the counts are written.
const INTERVAL: Duration = Duration::from_secs(5);

/// The outcome of a request, as far as it matters for usage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestOutcome {
    /// Neither rejected nor throttled: any other response, or none because the client closed the
    /// connection. It counts as usage.
    Answered,
    /// The caller is not permitted to do this (403). It counts as usage.
    Rejected,
    /// A rate limit or the quota was exceeded (429). It does not count as usage.
    Throttled,
}

/// The outcome of a check of a credential by a verifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckOutcome {
    /// The units that were [admitted](Meter::admit_units) within the quota.
    pub admitted: u64,
    /// The units that count as usage.
    pub counted: u64,
    /// Whether the check was rejected, also by a limit.
    pub is_rejected: bool,
}

/// Counts requests; cheap to clone.
#[derive(Clone)]
pub struct Meter(Arc<Inner>);

struct Inner {
    db: Database,
    pending: Mutex<Pending>,
    quotas: Quotas,
    /// What requests to Tenantry itself are attributed to.
    no_attribution: Arc<Attribution>,
    /// Allows one flush at a time, so that a caller that waited for it finds its own requests
    /// written.
    flushing: tokio::sync::Mutex<()>,
}

impl Meter {
    /// Creates a meter that writes to `db`.
    #[must_use]
    pub fn new(db: Database) -> Self {
        let (pending, flushing) = (Mutex::default(), tokio::sync::Mutex::default());
        let (quotas, no_attribution) = (Quotas::default(), Arc::default());
        Self(Arc::new(Inner { db, pending, quotas, no_attribution, flushing }))
    }

    /// Admits one request of an organization with a quota of `limit` requests per month, and counts
    /// it against the quota. An admitted request is [counted](Self::count) when it is answered.
    ///
    /// # Errors
    /// The number of requests used, if the quota is used up.
    pub fn admit(
        &self,
        organization: OrganizationId,
        limit: u64,
        now: DateTime<Utc>,
    ) -> Result<(), u64> {
        self.admit_units(organization, (1, limit), false, now).map(drop)
    }

    /// Admits `units` requests of an organization with a quota of `limit` requests per month, and
    /// counts them unless it is a dry run. Returns the number of requests used, these included.
    /// Admitted units are [settled](Self::count_check) when the check is done.
    ///
    /// # Errors
    /// The number of requests used, if `units` more would exceed the quota.
    pub fn admit_units(
        &self,
        organization: OrganizationId,
        (units, limit): (u64, u64),
        is_dry_run: bool,
        now: DateTime<Utc>,
    ) -> Result<u64, u64> {
        let (month, quotas) = ((organization, Period::month_of(now).start), &self.0.quotas);
        if is_dry_run {
            quotas.peek(month, units, limit)
        } else {
            quotas.admit(month, units, limit)
        }
    }

    /// Counts a check of a key or token by a verifier, which may count as several requests and is
    /// attributed to what the verifier says.
    pub fn count_check(
        &self,
        (key, credential): (KeyId, UsedCredential),
        organization: Option<OrganizationId>,
        (outcome, attribution): (CheckOutcome, &Arc<Attribution>),
        now: DateTime<Utc>,
    ) {
        let CheckOutcome { admitted, counted, is_rejected } = outcome;
        if let Some(organization) = organization.filter(|_| admitted != counted) {
            self.0.quotas.adjust((organization, Period::month_of(now).start), admitted, counted);
        }
        let units = i64::try_from(counted).unwrap_or(i64::MAX);
        let use_of_key = (key, organization, hour_of(now));
        let used = KeyUse::new(credential, (units, i64::from(is_rejected)), now);
        self.0.pending().add(use_of_key, used, attribution);
    }

    /// Counts one request for the organization that its path names, or otherwise the one that its
    /// credential acts in. Requests in an account's session are not usage of an organization; they
    /// only update when the session was last used.
    pub fn count(
        &self,
        identity: &Identity,
        path_organization: Option<OrganizationId>,
        (outcome, was_admitted): (RequestOutcome, bool),
        now: DateTime<Utc>,
    ) {
        let (key, credential) = match identity.credential() {
            Some(Credential::Key(key, _)) => (key.id, UsedCredential::Key),
            Some(Credential::PersonalToken(_, key)) => (key.id, UsedCredential::PersonalToken),
            Some(Credential::OauthToken(_, token)) => {
                (KeyId::from_uuid(token.grant.uuid()), UsedCredential::Grant)
            }
            Some(Credential::Session(_, session)) => {
                return self.0.pending().seen_at(*session, now);
            }
            None => return,
        };
        let organization = path_organization
            .or_else(|| identity.caller.as_ref().map(|caller| caller.organization));
        let counts = outcome != RequestOutcome::Throttled;
        if let Some(organization) = organization {
            let month = (organization, Period::month_of(now).start);
            self.0.quotas.adjust(month, u64::from(was_admitted), u64::from(counts));
        }
        let is_rejected = outcome != RequestOutcome::Answered;
        let used = KeyUse::new(credential, (i64::from(counts), i64::from(is_rejected)), now);
        let use_of_key = (key, organization, hour_of(now));
        self.0.pending().add(use_of_key, used, &self.0.no_attribution);
    }

    /// Writes the counts so far. Counts that could not be written are retried by the next flush.
    ///
    /// It continues even if the caller is cancelled: an interrupted batch that is counted again
    /// could be written twice.
    pub async fn flush(&self) -> Result<()> {
        let counts = Arc::clone(&self.0);
        tokio::spawn(async move { counts.write().await }).await.map_err(Error::internal)?
    }

    /// Flushes every 5 seconds until `stop` is cancelled, and then once more.
    pub async fn run(&self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            self.flush_and_log().await;
        }
        self.flush_and_log().await;
    }

    /// Reads the monthly usage of organizations whose usage was written without the meter.
    pub async fn refresh(&self, organizations: &[OrganizationId], now: DateTime<Utc>) {
        let month = Period::month_of(now).start;
        let months = organizations.iter().map(|organization| ((*organization, month), 0));
        self.0.refresh_quotas(months.collect()).await;
    }

    /// Flushes and logs a failure.
    pub async fn flush_and_log(&self) {
        if let Err(error) = self.flush().await {
            tracing::warn!(cause = %error.cause(), "usage not written; will retry");
        }
    }
}

impl Inner {
    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn write(&self) -> Result<()> {
        let _guard = self.flushing.lock().await;
        let Pending { uses, seen, .. } = std::mem::take(&mut *self.pending());
        let seen: Vec<_> = seen.into_iter().collect();
        if uses.is_empty() && seen.is_empty() {
            return Ok(());
        }
        let guard = BatchGuard { tallies: tallies_by_day(&uses), uses, seen, to: self };
        let written = self.db.transaction(async |tx| guard.write(tx).await).await;
        let outcome = if written.is_ok() { "written" } else { "failed" };
        counter!("usage_flushes_total", "outcome" => outcome).increment(1);
        if written.is_ok() {
            let months = guard.months();
            guard.mark_written();
            self.quotas.record_written(&months);
            self.refresh_quotas(months).await;
        }
        written
    }

    /// Reads the total usage of the organizations of a batch, after the batch's transaction, which
    /// locks keys. If that fails, counting continues from the last known totals.
    async fn refresh_quotas(&self, months: HashMap<Month, u64>) {
        let months: Vec<Month> = months.into_keys().collect();
        if months.is_empty() {
            return;
        }
        match self.db.run(async |db| usage::sum_by_month(db, &months).await).await {
            Ok(totals) => self.quotas.set_totals(&totals),
            Err(error) => tracing::warn!(cause = %error.cause(), "monthly usage not read"),
        }
    }
}

/// A batch that is being written. If it is dropped before it is written, its counts become pending
/// again.
struct BatchGuard<'a> {
    uses: HashMap<UseOfKey, KeyUse>,
    tallies: Vec<UsageTally>,
    seen: Vec<(SessionId, DateTime<Utc>)>,
    to: &'a Inner,
}

impl BatchGuard<'_> {
    /// Writes the batch. Locks sessions and personal access tokens before keys, as all code does.
    async fn write(&self, tx: &mut PgConnection) -> Result<()> {
        if !self.seen.is_empty() {
            sessions::extend_used(tx, &self.seen).await?;
        }
        let grants = self.tallies_of(UsedCredential::Grant);
        if !grants.is_empty() {
            oauth_callers::record_use(tx, &grants).await?;
        }
        let personal = self.tallies_of(UsedCredential::PersonalToken);
        if !personal.is_empty() {
            personal_tokens::record_use(tx, &personal).await?;
        }
        usage::add(tx, &self.tallies).await?;
        usage_hourly::add(tx, &self.attributed()).await
    }

    fn tallies_of(&self, credential: UsedCredential) -> Vec<UsageTally> {
        self.tallies.iter().filter(|tally| tally.credential == credential).cloned().collect()
    }

    fn attributed(&self) -> Vec<AttributedUsage> {
        let mut rows = Vec::new();
        for (&(key, organization, hour), used) in &self.uses {
            let (Some(organization), key) = (organization, Some(key)) else { continue };
            rows.extend(used.attributed.iter().map(|(attribution, &units)| {
                let attribution = Attribution::clone(attribution);
                AttributedUsage { organization, hour, key, attribution, units }
            }));
        }
        rows
    }

    /// Returns the number of requests per organization and month.
    fn months(&self) -> HashMap<Month, u64> {
        let mut months = HashMap::default();
        for tally in &self.tallies {
            if let Some(organization) = tally.organization {
                let month = (organization, Period::month_containing(tally.day).start);
                *months.entry(month).or_default() += u64::try_from(tally.requests).unwrap_or(0);
            }
        }
        months
    }

    fn mark_written(mut self) {
        self.uses.clear();
        self.seen.clear();
    }
}

impl Drop for BatchGuard<'_> {
    fn drop(&mut self) {
        let mut pending = self.to.pending();
        for (use_of_key, used) in self.uses.drain() {
            pending.add_again(use_of_key, used);
        }
        for (session, at) in self.seen.drain(..) {
            pending.seen_at(session, at);
        }
    }
}
