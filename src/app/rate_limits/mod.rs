//! How often who may do what. Every limit has a wall in this process; those that have to mean the
//! same on every server are asked of a table, too, behind the wall. Where that can not be reached,
//! the wall alone holds: never nothing.

mod local_buckets;
mod outage;

use std::time::{Duration, Instant};

use metrics::counter;
use sqlx::PgConnection;

use self::local_buckets::LocalBuckets;
use self::outage::Outage;
use crate::app::database::Database;
use crate::config::rate_limits::{RateLimitSetting, RateLimitSettings};
use crate::error::{Error, ErrorKind, Result};
use crate::model::ids::OrganizationId;
use crate::model::rate::{Rate, RateOutcome};
use crate::model::rate_limit::{LimitSubject, RateLimit};
use crate::repo::rate_limits;

/// The name of the limit that each plan has of its own.
const PLAN_LIMIT: &str = "org";

/// A limit that a request was judged by, for its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimitDecision {
    /// The limit's name.
    pub name: &'static str,
    /// Whether the answer tells of it where nobody is refused.
    pub is_reported: bool,
    /// The verdict.
    pub verdict: RateOutcome,
}

/// How often who may do what.
pub struct RateLimits {
    db: Database,
    is_on: bool,
    buckets: [LocalBuckets; RateLimit::ALL.len()],
    plan_buckets: LocalBuckets,
    outage: Outage,
}

impl RateLimits {
    /// Full buckets for everybody.
    #[must_use]
    pub fn new(db: Database, settings: &RateLimitSettings) -> Self {
        let walls = std::array::from_fn(|_| LocalBuckets::default());
        let outage = Outage::new(Instant::now());
        Self {
            db,
            is_on: settings.is_on,
            buckets: walls,
            plan_buckets: LocalBuckets::default(),
            outage,
        }
    }

    /// Counts one request of an organization against what its plan holds in a minute. `None` where
    /// that is without limit.
    #[must_use]
    pub fn count_request(
        &self,
        organization: OrganizationId,
        quota: Option<u64>,
    ) -> Option<RateLimitDecision> {
        let quota = quota.filter(|_| self.is_on)?;
        let rate = Rate::new(u32::try_from(quota.max(1)).unwrap_or(u32::MAX), 60);
        // Another plan's bucket is another bucket, or it would hold only when this one is full.
        let subject = LimitSubject::from_id(organization.0).with_number(quota);
        let verdict = self.plan_buckets.take(subject, &rate, Instant::now());
        Some(record((PLAN_LIMIT, true), verdict, false))
    }

    /// Counts one try against a limit that is this server's own.
    #[must_use]
    pub fn count_locally(
        &self,
        settings: &RateLimitSettings,
        limit: RateLimit,
        subject: LimitSubject,
    ) -> Option<RateLimitDecision> {
        let RateLimitSetting { rate, only_observed } = self.setting(settings, limit)?;
        let verdict = self.buckets[limit as usize].take(subject, &rate, Instant::now());
        Some(record((limit.as_str(), limit.is_reported_to_caller()), verdict, only_observed))
    }

    /// The refusal that a try would get now, against a limit that is this server's own. Nothing is
    /// counted.
    #[must_use]
    pub fn peek_rejection(
        &self,
        settings: &RateLimitSettings,
        limit: RateLimit,
        subject: LimitSubject,
    ) -> Option<RateLimitDecision> {
        let RateLimitSetting { rate, only_observed } = self.setting(settings, limit)?;
        let verdict = self.buckets[limit as usize].peek(subject, &rate, Instant::now());
        let is_refused = verdict.is_rejected() && !only_observed;
        is_refused.then(|| record((limit.as_str(), limit.is_reported_to_caller()), verdict, false))
    }

    /// Counts one try against a limit that all servers share.
    pub async fn count(
        &self,
        settings: &RateLimitSettings,
        limit: RateLimit,
        subject: LimitSubject,
    ) -> Option<RateLimitDecision> {
        self.count_with_fallback(settings, limit, subject, async { None }).await.0
    }

    /// The same, where whoever finds the bucket empty may have one of their own, which then
    /// decides. With the one that decided.
    pub async fn count_with_fallback(
        &self,
        settings: &RateLimitSettings,
        limit: RateLimit,
        subject: LimitSubject,
        own: impl Future<Output = Option<LimitSubject>>,
    ) -> (Option<RateLimitDecision>, LimitSubject) {
        let Some(RateLimitSetting { rate, only_observed }) = self.setting(settings, limit) else {
            return (None, subject);
        };
        let mut judged = (self.decide(limit, subject, &rate).await, subject);
        if judged.0.is_rejected()
            && let Some(own) = own.await
        {
            judged = (self.decide(limit, own, &rate).await, own);
        }
        (
            Some(record((limit.as_str(), limit.is_reported_to_caller()), judged.0, only_observed)),
            judged.1,
        )
    }

    /// Judges one try: at the wall first, so that whom that knows to be over the limit reaches no
    /// table. What the table says then holds at the wall, too. Whom the wall has no room for, the
    /// table has.
    async fn decide(&self, limit: RateLimit, subject: LimitSubject, rate: &Rate) -> RateOutcome {
        let (wall, now) = (&self.buckets[limit as usize], Instant::now());
        let here = wall.try_take(subject, rate, now);
        if let Some(refused) = here.filter(RateOutcome::is_rejected) {
            return refused;
        }
        let (name, id) = (limit.as_str(), subject.uuid());
        match self
            .query_table(limit, async |db| rate_limits::check_and_count(db, name, id, rate).await)
            .await
        {
            Some(verdict) => {
                wall.set(subject, verdict.until_full, Instant::now());
                verdict
            }
            None => here.unwrap_or_else(|| wall.take_shared(subject, rate, now)),
        }
    }

    /// Fills a subject's bucket, here and in the table; elsewhere the walls fill by themselves.
    pub async fn refill(&self, limit: RateLimit, subject: LimitSubject) {
        if !self.is_on {
            return;
        }
        let (name, id) = (limit.as_str(), subject.uuid());
        self.buckets[limit as usize].refill(subject);
        self.query_table(limit, async |db| rate_limits::refill(db, name, id).await).await;
    }

    /// Gives a try back that was counted, and came to nothing by no fault of whoever made it.
    pub async fn give_back(
        &self,
        settings: &RateLimitSettings,
        limit: RateLimit,
        subject: LimitSubject,
    ) {
        let Some(RateLimitSetting { rate, .. }) = self.setting(settings, limit) else { return };
        let (name, id) = (limit.as_str(), subject.uuid());
        self.buckets[limit as usize].give_back(subject, &rate);
        self.query_table(limit, async |db| rate_limits::refund(db, name, id, &rate).await).await;
    }

    fn setting(&self, settings: &RateLimitSettings, limit: RateLimit) -> Option<RateLimitSetting> {
        self.is_on.then(|| settings.of(limit))
    }

    /// Asks the table. Where it did not answer a moment ago it is not asked, since every request
    /// would wait for it.
    async fn query_table<T>(
        &self,
        limit: RateLimit,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<T>,
    ) -> Option<T> {
        if !self.outage.is_ongoing(Instant::now()) {
            match self.db.run(work).await {
                Ok(answer) => return Some(answer),
                // The table is there; the caller has too much under way to ask it.
                Err(error) if *error.kind() == ErrorKind::RateLimited => {}
                Err(_) => self.outage.record(Instant::now()),
            }
        }
        counter!("rate_limit_fallbacks_total", "limit" => limit.as_str()).increment(1);
        None
    }

    /// Forgets buckets that are full.
    pub fn forget_full(&self) {
        let now = Instant::now();
        self.buckets.iter().chain([&self.plan_buckets]).for_each(|wall| wall.forget_full(now));
    }
}

impl RateLimitDecision {
    /// Passes what was let through.
    ///
    /// # Errors
    /// Rate limited, with when to try again.
    pub fn require(&self) -> Result<()> {
        let Some(wait) = self.verdict.retry_after else { return Ok(()) };
        let message = format!("Too many requests for now (limit: {})", self.name);
        let wait = wait.max(Duration::from_secs(1));
        Err(Error::new(ErrorKind::RateLimited, message).with_retry_after(wait))
    }
}

/// Counts a refusal, and takes it back where the limit is only observed.
fn record(
    (name, is_told): (&'static str, bool),
    verdict: RateOutcome,
    only_observed: bool,
) -> RateLimitDecision {
    if verdict.is_rejected() {
        let mode = if only_observed { "observed" } else { "enforced" };
        counter!("rate_limited_total", "limit" => name, "mode" => mode).increment(1);
    }
    let retry_after = verdict.retry_after.filter(|_| !only_observed);
    RateLimitDecision {
        name,
        is_reported: is_told,
        verdict: RateOutcome { retry_after, ..verdict },
    }
}
