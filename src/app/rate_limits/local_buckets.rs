//! Rate limit buckets in this process, by subject. A subject that is over its limit is rejected
//! here, without a database query.

use std::collections::hash_map::Entry;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use foldhash::HashMap;

use crate::model::rate::{Rate, RateOutcome};
use crate::model::rate_limit::LimitSubject;

/// The number of shards, each with its own lock, so that requests seldom wait for each other.
const SHARDS: usize = 16;
/// The maximum number of buckets in a shard: about 10 MB for all buckets of one limit. Until full
/// buckets are removed, further subjects share one bucket per shard.
const MAX_PER_SHARD: usize = 10_000;

/// Token buckets by subject. A subject whose rate was changed starts with a full bucket.
pub struct LocalBuckets([Mutex<Shard>; SHARDS]);

type Shard = HashMap<LimitSubject, Bucket>;

/// A bucket, stored as the time at which it will be full.
#[derive(Clone, Copy)]
struct Bucket {
    full_at: Instant,
    quota: u32,
    window: Duration,
}

impl Bucket {
    fn new(full_at: Instant, rate: &Rate) -> Self {
        Self { full_at, quota: rate.quota, window: rate.window }
    }
}

impl Default for LocalBuckets {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Mutex::default()))
    }
}

impl LocalBuckets {
    /// Counts one attempt against the subject's bucket; if there is no capacity for one, against
    /// the shared bucket.
    pub fn take(&self, subject: LimitSubject, rate: &Rate, now: Instant) -> RateOutcome {
        let own = self.try_take(subject, rate, now);
        own.unwrap_or_else(|| self.take_shared(subject, rate, now))
    }

    /// Counts one attempt against the subject's bucket; `None` if there is no capacity for one.
    pub fn try_take(
        &self,
        subject: LimitSubject,
        rate: &Rate,
        now: Instant,
    ) -> Option<RateOutcome> {
        let mut shard = self.shard(subject);
        has_capacity(&shard, subject).then(|| take(&mut shard, subject, (rate, 1), now))
    }

    /// Counts one attempt against the bucket that the subjects of a full shard share.
    pub fn take_shared(&self, subject: LimitSubject, rate: &Rate, now: Instant) -> RateOutcome {
        take(&mut self.shard(subject), LimitSubject::SHARED, (rate, 1), now)
    }

    /// Sets the subject's bucket to be full after `until_full`, as the shared table reported it.
    pub fn set(&self, subject: LimitSubject, rate: &Rate, until_full: Duration, now: Instant) {
        let mut shard = self.shard(subject);
        if has_capacity(&shard, subject) {
            shard.insert(subject, Bucket::new(now + until_full, rate));
        }
    }

    /// Counts an attempt that counts as several, as [`Self::take`] does. Returns also whether the
    /// subject's own bucket was used, for [`Self::refund_units`].
    pub fn take_units(
        &self,
        subject: LimitSubject,
        rate: &Rate,
        units: u32,
        now: Instant,
    ) -> (RateOutcome, bool) {
        let mut shard = self.shard(subject);
        let is_own = has_capacity(&shard, subject);
        let charged = if is_own { subject } else { LimitSubject::SHARED };
        (take(&mut shard, charged, (rate, units), now), is_own)
    }

    /// Refunds one attempt to the subject's bucket.
    pub fn refund(&self, subject: LimitSubject, rate: &Rate) {
        self.refund_units(subject, rate, 1, true);
    }

    /// Refunds an attempt that counted as several to the subject's own bucket, or to the shared
    /// one.
    pub fn refund_units(&self, subject: LimitSubject, rate: &Rate, units: u32, is_own: bool) {
        let charged = if is_own { subject } else { LimitSubject::SHARED };
        if let Some(bucket) = self.shard(subject).get_mut(&charged) {
            let refund = rate.interval() * units;
            bucket.full_at = bucket.full_at.checked_sub(refund).unwrap_or(bucket.full_at);
        }
    }

    /// Returns the outcome that one attempt of the subject would have, without counting it.
    pub fn peek(&self, subject: LimitSubject, rate: &Rate, now: Instant) -> RateOutcome {
        self.peek_units(subject, rate, 1, now)
    }

    /// Returns the outcome that an attempt that counts as several would have, without counting it.
    pub fn peek_units(
        &self,
        subject: LimitSubject,
        rate: &Rate,
        units: u32,
        now: Instant,
    ) -> RateOutcome {
        let shard = self.shard(subject);
        rate.check_units(until_full(shard.get(&subject), subject, rate, now), units).0
    }

    /// Fills the subject's bucket.
    pub fn refill(&self, subject: LimitSubject) {
        self.shard(subject).remove(&subject);
    }

    /// Removes buckets that are full.
    pub fn remove_full(&self, now: Instant) {
        for shard in &self.0 {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.retain(|_, bucket| bucket.full_at > now);
            if shard.capacity() > 4 * shard.len().max(16) {
                shard.shrink_to_fit();
            }
        }
    }

    fn shard(&self, subject: LimitSubject) -> MutexGuard<'_, Shard> {
        let shard = &self.0[subject.shard_hash() % SHARDS];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns whether the shard has a bucket for the subject or can add one. It does not remove full
/// buckets first: a scan for each request of a flood would be too slow.
fn has_capacity(shard: &Shard, subject: LimitSubject) -> bool {
    shard.len() < MAX_PER_SHARD || shard.contains_key(&subject)
}

fn take(
    shard: &mut Shard,
    subject: LimitSubject,
    (rate, units): (&Rate, u32),
    now: Instant,
) -> RateOutcome {
    let entry = shard.entry(subject);
    let bucket = match &entry {
        Entry::Occupied(entry) => Some(entry.get()),
        Entry::Vacant(_) => None,
    };
    let (outcome, after) = rate.check_units(until_full(bucket, subject, rate, now), units);
    if let Some(after) = after {
        entry.insert_entry(Bucket::new(now + after, rate));
    }
    outcome
}

/// Returns the time until a subject's bucket is full; zero without a bucket. In a bucket that
/// subjects with different rates share, each waits for its own window at most.
fn until_full(
    bucket: Option<&Bucket>,
    subject: LimitSubject,
    rate: &Rate,
    now: Instant,
) -> Duration {
    let Some(bucket) = bucket else { return Duration::ZERO };
    let is_changed = (bucket.quota, bucket.window) != (rate.quota, rate.window);
    if is_changed && subject != LimitSubject::SHARED {
        return Duration::ZERO;
    }
    bucket.full_at.saturating_duration_since(now).min(rate.window)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(number: u128) -> LimitSubject {
        LimitSubject::from_id(uuid::Uuid::from_u128(number << 64))
    }

    #[test]
    fn each_subject_has_its_own_bucket_which_refills() {
        let (buckets, rate, now) = (LocalBuckets::default(), Rate::new(2, 10), Instant::now());
        let [one, other] = [1, 2].map(subject);
        let is_rejected = |subject, at| buckets.take(subject, &rate, at).is_rejected();
        assert_eq!([0, 1, 2].map(|_| is_rejected(one, now)), [false, false, true]);
        assert!(!is_rejected(other, now));
        assert!(!is_rejected(one, now + Duration::from_secs(5)));
        assert!(is_rejected(one, now + Duration::from_secs(5)));
        buckets.refill(one);
        assert!(!is_rejected(one, now + Duration::from_secs(5)));
    }

    #[test]
    fn a_refunded_attempt_can_be_used_again_and_no_bucket_exceeds_its_quota() {
        let (buckets, rate, now) = (LocalBuckets::default(), Rate::new(2, 10), Instant::now());
        let take = || !buckets.take(subject(1), &rate, now).is_rejected();
        assert_eq!([0, 1, 2].map(|_| take()), [true, true, false]);
        buckets.refund(subject(1), &rate);
        assert_eq!([0, 1].map(|_| take()), [true, false]);
        (0..5).for_each(|_| buckets.refund(subject(1), &rate));
        assert_eq!([0, 1, 2].map(|_| take()), [true, true, false]);
    }

    #[test]
    fn a_bucket_that_is_set_continues_from_that_level() {
        let (buckets, rate, now) = (LocalBuckets::default(), Rate::new(2, 10), Instant::now());
        buckets.set(subject(1), &rate, Duration::from_secs(8), now);
        let outcome = buckets.take(subject(1), &rate, now);
        assert_eq!(outcome.retry_after, Some(Duration::from_secs(3)));
        buckets.set(subject(1), &rate, Duration::ZERO, now);
        assert_eq!(buckets.take(subject(1), &rate, now).remaining, 1);
    }

    #[test]
    fn rejected_attempts_do_not_postpone_the_next_accepted_one() {
        let (buckets, rate, start) = (LocalBuckets::default(), Rate::new(1, 10), Instant::now());
        let accepted = (0..100).filter(|second| {
            let now = start + Duration::from_secs(*second);
            !buckets.take(subject(1), &rate, now).is_rejected()
        });
        assert_eq!(accepted.count(), 10);
    }

    #[test]
    fn subjects_beyond_the_capacity_share_one_bucket_per_shard_and_use_no_more_memory() {
        let (buckets, rate, now) = (LocalBuckets::default(), Rate::new(1, 3_600), Instant::now());
        let many = u32::try_from(SHARDS * MAX_PER_SHARD * 2).expect("a number");
        let accepted = (0..many)
            .filter(|number| !buckets.take(subject((*number).into()), &rate, now).is_rejected());
        assert!(accepted.count() <= SHARDS * (MAX_PER_SHARD + 1));
        // A subject with a bucket keeps it, and a new one gets none.
        assert!(buckets.try_take(subject(0), &rate, now).is_some());
        assert_eq!(buckets.try_take(subject(many.into()), &rate, now), None);
        let count = || -> usize {
            buckets.0.iter().map(|shard| shard.lock().expect("no panic").len()).sum()
        };
        assert!(count() <= SHARDS * (MAX_PER_SHARD + 1));
        buckets.remove_full(now + Duration::from_hours(2));
        assert_eq!(count(), 0);
    }

    #[test]
    fn a_subject_whose_rate_changed_has_one_bucket_which_starts_full() {
        let (buckets, now) = (LocalBuckets::default(), Instant::now());
        for quota in 1..100 {
            let (outcome, is_own) =
                buckets.take_units(subject(1), &Rate::new(quota, 60), quota, now);
            assert!(!outcome.is_rejected() && is_own, "{quota}");
            assert!(buckets.take(subject(1), &Rate::new(quota, 60), now).is_rejected());
        }
        assert_eq!(buckets.shard(subject(1)).len(), 1);
    }

    #[test]
    fn in_a_shared_bucket_each_subject_waits_for_its_own_window_at_most() {
        let (buckets, now) = (LocalBuckets::default(), Instant::now());
        assert!(!buckets.take_shared(subject(1), &Rate::new(1, 86_400), now).is_rejected());
        let minute = Rate::new(100, 60);
        let waiting = buckets.take_shared(subject(1), &minute, now);
        assert!(waiting.retry_after.is_some_and(|wait| wait <= minute.window), "{waiting:?}");
    }
}
