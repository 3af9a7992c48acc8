//! How often who may do what. Every limit has a wall in this process; those that have to mean the
//! same on every server are asked of a table, too, behind the wall. Where that can not be reached,
//! the wall alone holds: never nothing.

mod outage;
mod wall;

use std::time::{Duration, Instant};

use metrics::counter;
use sqlx::PgConnection;

use self::outage::Outage;
use self::wall::Wall;
use crate::app::database::Database;
use crate::config::limits::{LimitSettings, Setting};
use crate::error::{Error, Kind, Result};
use crate::model::ids::OrganizationId;
use crate::model::limit::{Limit, Subject};
use crate::model::rate::{Rate, Verdict};
use crate::repo::rate_limits;

/// The name of the limit that each plan has of its own.
const PLAN: &str = "org";

/// A limit that a request was judged by, for its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judged {
    /// The limit's name.
    pub name: &'static str,
    /// Whether the answer tells of it where nobody is refused.
    pub is_told: bool,
    /// The verdict.
    pub verdict: Verdict,
}

/// How often who may do what.
pub struct Limits {
    db: Database,
    is_on: bool,
    walls: [Wall; Limit::ALL.len()],
    plans: Wall,
    outage: Outage,
}

impl Limits {
    /// Full buckets for everybody.
    #[must_use]
    pub fn new(db: Database, settings: &LimitSettings) -> Self {
        let walls = std::array::from_fn(|_| Wall::default());
        let outage = Outage::none(Instant::now());
        Self { db, is_on: settings.is_on, walls, plans: Wall::default(), outage }
    }

    /// Counts one request of an organization against what its plan holds in a minute. `None` where
    /// that is without limit.
    #[must_use]
    pub fn count_request(
        &self,
        organization: OrganizationId,
        quota: Option<u64>,
    ) -> Option<Judged> {
        let quota = quota.filter(|_| self.is_on)?;
        let rate = Rate::new(u32::try_from(quota.max(1)).unwrap_or(u32::MAX), 60);
        // Another plan's bucket is another bucket, or it would hold only when this one is full.
        let subject = Subject::id(organization.0).with(quota);
        let verdict = self.plans.take(subject, &rate, Instant::now());
        Some(tell((PLAN, true), verdict, false))
    }

    /// Counts one try against a limit that is this server's own.
    #[must_use]
    pub fn count_here(
        &self,
        settings: &LimitSettings,
        limit: Limit,
        subject: Subject,
    ) -> Option<Judged> {
        let Setting { rate, only_observed } = self.setting(settings, limit)?;
        let verdict = self.walls[limit as usize].take(subject, &rate, Instant::now());
        Some(tell((limit.as_str(), limit.is_of_caller()), verdict, only_observed))
    }

    /// The refusal that a try would get now, against a limit that is this server's own. Nothing is
    /// counted.
    #[must_use]
    pub fn refuses(
        &self,
        settings: &LimitSettings,
        limit: Limit,
        subject: Subject,
    ) -> Option<Judged> {
        let Setting { rate, only_observed } = self.setting(settings, limit)?;
        let verdict = self.walls[limit as usize].look(subject, &rate, Instant::now());
        let is_refused = verdict.is_refusal() && !only_observed;
        is_refused.then(|| tell((limit.as_str(), limit.is_of_caller()), verdict, false))
    }

    /// Counts one try against a limit that all servers share.
    pub async fn count(
        &self,
        settings: &LimitSettings,
        limit: Limit,
        subject: Subject,
    ) -> Option<Judged> {
        self.count_either(settings, limit, subject, async { None }).await.0
    }

    /// The same, where whoever finds the bucket empty may have one of their own, which then
    /// decides. With the one that decided.
    pub async fn count_either(
        &self,
        settings: &LimitSettings,
        limit: Limit,
        subject: Subject,
        own: impl Future<Output = Option<Subject>>,
    ) -> (Option<Judged>, Subject) {
        let Some(Setting { rate, only_observed }) = self.setting(settings, limit) else {
            return (None, subject);
        };
        let mut judged = (self.judge(limit, subject, &rate).await, subject);
        if judged.0.is_refusal()
            && let Some(own) = own.await
        {
            judged = (self.judge(limit, own, &rate).await, own);
        }
        (Some(tell((limit.as_str(), limit.is_of_caller()), judged.0, only_observed)), judged.1)
    }

    /// Judges one try: at the wall first, so that whom that knows to be over the limit reaches no
    /// table. What the table says then holds at the wall, too. Whom the wall has no room for, the
    /// table has.
    async fn judge(&self, limit: Limit, subject: Subject, rate: &Rate) -> Verdict {
        let (wall, now) = (&self.walls[limit as usize], Instant::now());
        let here = wall.take_own(subject, rate, now);
        if let Some(refused) = here.filter(Verdict::is_refusal) {
            return refused;
        }
        let (name, id) = (limit.as_str(), subject.uuid());
        match self.ask(limit, async |db| rate_limits::take(db, name, id, rate).await).await {
            Some(verdict) => {
                wall.set(subject, verdict.until_full, Instant::now());
                verdict
            }
            None => here.unwrap_or_else(|| wall.take_of_crowd(subject, rate, now)),
        }
    }

    /// Fills a subject's bucket, here and in the table; elsewhere the walls fill by themselves.
    pub async fn refill(&self, limit: Limit, subject: Subject) {
        if !self.is_on {
            return;
        }
        let (name, id) = (limit.as_str(), subject.uuid());
        self.walls[limit as usize].refill(subject);
        self.ask(limit, async |db| rate_limits::refill(db, name, id).await).await;
    }

    /// Gives a try back that was counted, and came to nothing by no fault of whoever made it.
    pub async fn give_back(&self, settings: &LimitSettings, limit: Limit, subject: Subject) {
        let Some(Setting { rate, .. }) = self.setting(settings, limit) else { return };
        let (name, id) = (limit.as_str(), subject.uuid());
        self.walls[limit as usize].give_back(subject, &rate);
        self.ask(limit, async |db| rate_limits::give_back(db, name, id, &rate).await).await;
    }

    fn setting(&self, settings: &LimitSettings, limit: Limit) -> Option<Setting> {
        self.is_on.then(|| settings.of(limit))
    }

    /// Asks the table. Where it did not answer a moment ago it is not asked, since every request
    /// would wait for it.
    async fn ask<T>(
        &self,
        limit: Limit,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<T>,
    ) -> Option<T> {
        if !self.outage.lasts(Instant::now()) {
            match self.db.run(work).await {
                Ok(answer) => return Some(answer),
                // The table is there; the caller has too much under way to ask it.
                Err(error) if *error.kind() == Kind::RateLimited => {}
                Err(_) => self.outage.note(Instant::now()),
            }
        }
        counter!("rate_limit_fallbacks_total", "limit" => limit.as_str()).increment(1);
        None
    }

    /// Forgets buckets that are full.
    pub fn forget_full(&self) {
        let now = Instant::now();
        self.walls.iter().chain([&self.plans]).for_each(|wall| wall.forget_full(now));
    }
}

impl Judged {
    /// Passes what was let through.
    ///
    /// # Errors
    /// Rate limited, with when to try again.
    pub fn require(&self) -> Result<()> {
        let Some(wait) = self.verdict.retry_after else { return Ok(()) };
        let message = format!("Too many requests for now (limit: {})", self.name);
        let wait = wait.max(Duration::from_secs(1));
        Err(Error::new(Kind::RateLimited, message).with_retry_after(wait))
    }
}

/// Counts a refusal, and takes it back where the limit is only observed.
fn tell((name, is_told): (&'static str, bool), verdict: Verdict, only_observed: bool) -> Judged {
    if verdict.is_refusal() {
        let mode = if only_observed { "observed" } else { "enforced" };
        counter!("rate_limited_total", "limit" => name, "mode" => mode).increment(1);
    }
    let retry_after = verdict.retry_after.filter(|_| !only_observed);
    Judged { name, is_told, verdict: Verdict { retry_after, ..verdict } }
}
