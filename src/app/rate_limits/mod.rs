//! Rate limits. Every limit has buckets in this process. Limits that all servers share are also
//! counted in a database table, after the local buckets. If the database is unreachable, the local
//! buckets alone apply, so that a limit is never off.

mod local_buckets;
mod outage;

use std::borrow::Cow;
use std::time::{Duration, Instant};

use metrics::counter;
use sqlx::PgConnection;

use self::local_buckets::LocalBuckets;
use self::outage::Outage;
use crate::app::database::Database;
use crate::config::rate_limits::{RateLimitSetting, RateLimitSettings};
use crate::error::{Error, ErrorKind, Result};
use crate::model::ids::OrganizationId;
use crate::model::named_limits::{NamedLimit, NamedLimitBucket};
use crate::model::rate::{Rate, RateOutcome};
use crate::model::rate_limit::{LimitSubject, RateLimit};
use crate::repo::rate_limits;

/// The name of the limit whose rate depends on the organization's plan.
const PLAN_LIMIT: &str = "org";

/// The decision of one rate limit on a request, for the response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimitDecision {
    /// The limit's name.
    pub name: Cow<'static, str>,
    /// Whether the response reports the limit even if the request is accepted.
    pub is_reported: bool,
    /// The outcome.
    pub outcome: RateOutcome,
}

/// The rate limits of one server.
pub struct RateLimits {
    db: Database,
    is_on: bool,
    buckets: [LocalBuckets; RateLimit::ALL.len()],
    plan_buckets: LocalBuckets,
    /// The named limits of keys, which customers set, and those of organizations, which only the
    /// operator sets.
    named_buckets: [LocalBuckets; 2],
    outage: Outage,
}

impl RateLimits {
    /// Creates the rate limits, with full buckets.
    #[must_use]
    pub fn new(db: Database, settings: &RateLimitSettings) -> Self {
        Self {
            db,
            is_on: settings.is_on,
            buckets: std::array::from_fn(|_| LocalBuckets::default()),
            plan_buckets: LocalBuckets::default(),
            named_buckets: <[LocalBuckets; 2]>::default(),
            outage: Outage::new(Instant::now()),
        }
    }

    /// Counts one request of an organization against its plan's requests per minute. `None` if the
    /// plan has no such limit or rate limits are off.
    #[must_use]
    pub fn count_request(
        &self,
        organization: OrganizationId,
        quota: Option<u64>,
    ) -> Option<RateLimitDecision> {
        let (subject, rate) = self.plan_bucket(organization, quota)?;
        let outcome = self.plan_buckets.take(subject, &rate, Instant::now());
        Some(record((PLAN_LIMIT, true), outcome, false))
    }

    /// Returns the decision that [`Self::count_request`] would make, and counts nothing.
    #[must_use]
    pub fn peek_request(
        &self,
        organization: OrganizationId,
        quota: Option<u64>,
    ) -> Option<RateLimitDecision> {
        let (subject, rate) = self.plan_bucket(organization, quota)?;
        let outcome = self.plan_buckets.peek(subject, &rate, Instant::now());
        Some(RateLimitDecision { name: PLAN_LIMIT.into(), is_reported: true, outcome })
    }

    /// Refunds a request that [`Self::count_request`] counted.
    pub fn refund_request(&self, organization: OrganizationId, quota: Option<u64>) {
        if let Some((subject, rate)) = self.plan_bucket(organization, quota) {
            self.plan_buckets.refund(subject, &rate);
        }
    }

    /// Counts units against a named limit, on this server alone; a dry run counts nothing. Named
    /// limits apply even if rate limits are off: they are set on purpose, for one key or
    /// organization. Returns also whether the limit's own bucket was used, for
    /// [`Self::refund_named`].
    #[must_use]
    pub fn count_named(
        &self,
        limit: &NamedLimit,
        owner: NamedLimitBucket,
        units: u32,
        is_dry_run: bool,
    ) -> (RateLimitDecision, bool) {
        let (subject, rate, now) = (owner.subject(), limit.rate(), Instant::now());
        let buckets = &self.named_buckets[usize::from(owner.is_organization)];
        let (outcome, is_own) = if is_dry_run {
            (buckets.peek_units(subject, &rate, units, now), true)
        } else {
            buckets.take_units(subject, &rate, units, now)
        };
        let name = limit.name.as_str().to_owned().into();
        (RateLimitDecision { name, is_reported: true, outcome }, is_own)
    }

    /// Refunds units that [`Self::count_named`] counted.
    pub fn refund_named(
        &self,
        limit: &NamedLimit,
        owner: NamedLimitBucket,
        units: u32,
        is_own: bool,
    ) {
        let buckets = &self.named_buckets[usize::from(owner.is_organization)];
        buckets.refund_units(owner.subject(), &limit.rate(), units, is_own);
    }

    fn plan_bucket(
        &self,
        organization: OrganizationId,
        quota: Option<u64>,
    ) -> Option<(LimitSubject, Rate)> {
        let quota = quota.filter(|_| self.is_on)?;
        let rate = Rate::new(u32::try_from(quota.max(1)).unwrap_or(u32::MAX), 60);
        // Each quota has its own bucket, so that a change of plan takes effect at once.
        Some((LimitSubject::from_id(organization.0).with_number(quota), rate))
    }

    /// Counts one attempt against a limit that each server counts alone.
    #[must_use]
    pub fn count_locally(
        &self,
        settings: &RateLimitSettings,
        limit: RateLimit,
        subject: LimitSubject,
    ) -> Option<RateLimitDecision> {
        let RateLimitSetting { rate, only_observed } = self.setting(settings, limit)?;
        let outcome = self.buckets[limit as usize].take(subject, &rate, Instant::now());
        Some(record((limit.as_str(), limit.is_reported_to_caller()), outcome, only_observed))
    }

    /// Returns the rejection that an attempt would get now from a limit that each server counts
    /// alone, without counting the attempt. `None` if it would be accepted.
    #[must_use]
    pub fn peek_rejection(
        &self,
        settings: &RateLimitSettings,
        limit: RateLimit,
        subject: LimitSubject,
    ) -> Option<RateLimitDecision> {
        let RateLimitSetting { rate, only_observed } = self.setting(settings, limit)?;
        let outcome = self.buckets[limit as usize].peek(subject, &rate, Instant::now());
        let is_rejected = outcome.is_rejected() && !only_observed;
        is_rejected.then(|| record((limit.as_str(), limit.is_reported_to_caller()), outcome, false))
    }

    /// Counts one attempt against a limit that all servers share.
    pub async fn count(
        &self,
        settings: &RateLimitSettings,
        limit: RateLimit,
        subject: LimitSubject,
    ) -> Option<RateLimitDecision> {
        self.count_with_fallback(settings, limit, subject, async { None }).await.0
    }

    /// Counts one attempt as [`RateLimits::count`] does. If that rejects it and `fallback` yields a
    /// second subject, the bucket of that subject decides instead. Returns the decision and the
    /// subject whose bucket made it.
    pub async fn count_with_fallback(
        &self,
        settings: &RateLimitSettings,
        limit: RateLimit,
        subject: LimitSubject,
        fallback: impl Future<Output = Option<LimitSubject>>,
    ) -> (Option<RateLimitDecision>, LimitSubject) {
        let Some(RateLimitSetting { rate, only_observed }) = self.setting(settings, limit) else {
            return (None, subject);
        };
        let (mut outcome, mut decided_by) = (self.decide(limit, subject, &rate).await, subject);
        if outcome.is_rejected()
            && let Some(fallback) = fallback.await
        {
            (outcome, decided_by) = (self.decide(limit, fallback, &rate).await, fallback);
        }
        let limit = (limit.as_str(), limit.is_reported_to_caller());
        (Some(record(limit, outcome, only_observed)), decided_by)
    }

    /// Decides on one attempt: first in the local bucket, so that a subject that is known to be
    /// over the limit causes no query, then in the table. The local bucket is set to the table's
    /// result. Subjects beyond the capacity of the local buckets are decided by the table alone.
    async fn decide(&self, limit: RateLimit, subject: LimitSubject, rate: &Rate) -> RateOutcome {
        let (buckets, now) = (&self.buckets[limit as usize], Instant::now());
        let local = buckets.try_take(subject, rate, now);
        if let Some(rejection) = local.filter(RateOutcome::is_rejected) {
            return rejection;
        }
        let (name, id) = (limit.as_str(), subject.uuid());
        match self
            .query_table(limit, async |db| rate_limits::check_and_count(db, name, id, rate).await)
            .await
        {
            Some(outcome) => {
                buckets.set(subject, rate, outcome.until_full, Instant::now());
                outcome
            }
            None => local.unwrap_or_else(|| buckets.take_shared(subject, rate, now)),
        }
    }

    /// Fills a subject's bucket, locally and in the table. Local buckets of other servers fill at
    /// their usual rate.
    pub async fn refill(&self, limit: RateLimit, subject: LimitSubject) {
        if !self.is_on {
            return;
        }
        let (name, id) = (limit.as_str(), subject.uuid());
        self.buckets[limit as usize].refill(subject);
        self.query_table(limit, async |db| rate_limits::refill(db, name, id).await).await;
    }

    /// Refunds an attempt that was counted and then failed through no fault of the caller.
    pub async fn refund(
        &self,
        settings: &RateLimitSettings,
        limit: RateLimit,
        subject: LimitSubject,
    ) {
        let Some(RateLimitSetting { rate, .. }) = self.setting(settings, limit) else { return };
        let (name, id) = (limit.as_str(), subject.uuid());
        self.buckets[limit as usize].refund(subject, &rate);
        self.query_table(limit, async |db| rate_limits::refund(db, name, id, &rate).await).await;
    }

    fn setting(&self, settings: &RateLimitSettings, limit: RateLimit) -> Option<RateLimitSetting> {
        self.is_on.then(|| settings.of(limit))
    }

    /// Queries the table. Returns `None` without a query for a second after a failure, because
    /// otherwise every request would wait for an unreachable database.
    async fn query_table<T>(
        &self,
        limit: RateLimit,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<T>,
    ) -> Option<T> {
        if !self.outage.is_ongoing(Instant::now()) {
            match self.db.run(work).await {
                Ok(answer) => return Some(answer),
                // Not an outage: the caller's other requests use all of its share of the database
                // connections.
                Err(error) if *error.kind() == ErrorKind::RateLimited => {}
                Err(_) => self.outage.record(Instant::now()),
            }
        }
        counter!("rate_limit_fallbacks_total", "limit" => limit.as_str()).increment(1);
        None
    }

    /// Removes local buckets that are full.
    pub fn remove_full(&self) {
        let now = Instant::now();
        let all = self.buckets.iter().chain([&self.plan_buckets]).chain(&self.named_buckets);
        all.for_each(|buckets| buckets.remove_full(now));
    }
}

impl RateLimitDecision {
    /// Returns an error if the request is rejected.
    ///
    /// # Errors
    /// Rate limited, with the time to wait before a retry.
    pub fn require(&self) -> Result<()> {
        let Some(wait) = self.outcome.retry_after else { return Ok(()) };
        let message = format!("Too many requests (limit: {})", self.name);
        let wait = wait.max(Duration::from_secs(1));
        Err(Error::new(ErrorKind::RateLimited, message).with_retry_after(wait))
    }
}

/// Counts a rejection in the metrics. If the limit is only observed, the request is accepted.
fn record(
    (name, is_reported): (&'static str, bool),
    outcome: RateOutcome,
    only_observed: bool,
) -> RateLimitDecision {
    if outcome.is_rejected() {
        let mode = if only_observed { "observed" } else { "enforced" };
        counter!("rate_limited_total", "limit" => name, "mode" => mode).increment(1);
    }
    let retry_after = outcome.retry_after.filter(|_| !only_observed);
    let outcome = RateOutcome { retry_after, ..outcome };
    RateLimitDecision { name: name.into(), is_reported, outcome }
}
