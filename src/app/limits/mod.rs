//! How often who may do what. Every limit has a wall in this process; those that have to mean the
//! same on every server are asked of a table, too, behind the wall. Where that can not be reached,
//! the wall alone holds: never nothing.

mod wall;

use std::time::{Duration, Instant};

use metrics::counter;

use self::wall::Wall;
use crate::app::database::Database;
use crate::config::limits::LimitSettings;
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
    /// The verdict.
    pub verdict: Verdict,
}

/// How often who may do what.
pub struct Limits {
    db: Database,
    is_on: bool,
    walls: [Wall; Limit::ALL.len()],
    plans: Wall,
}

impl Limits {
    /// Full buckets for everybody.
    #[must_use]
    pub fn new(db: Database, settings: &LimitSettings) -> Self {
        let walls = std::array::from_fn(|_| Wall::default());
        Self { db, is_on: settings.is_on, walls, plans: Wall::default() }
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
        Some(tell(PLAN, verdict, false))
    }

    /// Counts one try against a limit that is this server's own.
    #[must_use]
    pub fn count_here(
        &self,
        settings: &LimitSettings,
        limit: Limit,
        subject: Subject,
    ) -> Option<Judged> {
        if !self.is_on {
            return None;
        }
        let setting = settings.of(limit);
        let verdict = self.walls[limit as usize].take(subject, &setting.rate, Instant::now());
        Some(tell(limit.as_str(), verdict, setting.only_observed))
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
        let setting = settings.of(limit);
        let verdict = self.walls[limit as usize].look(subject, &setting.rate, Instant::now());
        let is_refused = self.is_on && !setting.only_observed && verdict.is_refusal();
        is_refused.then(|| tell(limit.as_str(), verdict, false))
    }

    /// Counts one try against a limit that all servers share: at the wall first, so that a flood
    /// reaches no table.
    pub async fn count(
        &self,
        settings: &LimitSettings,
        limit: Limit,
        subject: Subject,
    ) -> Option<Judged> {
        let here = self.count_here(settings, limit, subject)?;
        if here.verdict.is_refusal() || !limit.is_shared() {
            return Some(here);
        }
        let setting = settings.of(limit);
        let (name, id) = (limit.as_str(), subject.uuid());
        let taken =
            self.db.run(async |db| rate_limits::take(db, name, id, &setting.rate).await).await;
        let Ok(verdict) = taken else {
            counter!("rate_limit_fallbacks_total", "limit" => name).increment(1);
            return Some(here);
        };
        Some(tell(name, verdict, setting.only_observed))
    }

    /// Fills a subject's bucket, here and in the table; elsewhere the walls fill by themselves.
    pub async fn refill(&self, limit: Limit, subject: Subject) {
        if !self.is_on {
            return;
        }
        self.walls[limit as usize].refill(subject);
        let (name, id) = (limit.as_str(), subject.uuid());
        if self.db.run(async |db| rate_limits::refill(db, name, id).await).await.is_err() {
            counter!("rate_limit_fallbacks_total", "limit" => name).increment(1);
        }
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
fn tell(name: &'static str, verdict: Verdict, only_observed: bool) -> Judged {
    if verdict.is_refusal() {
        let mode = if only_observed { "observed" } else { "enforced" };
        counter!("rate_limited_total", "limit" => name, "mode" => mode).increment(1);
    }
    let retry_after = verdict.retry_after.filter(|_| !only_observed);
    Judged { name, verdict: Verdict { retry_after, ..verdict } }
}
