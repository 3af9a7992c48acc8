//! The wall: buckets in this process, by subject. Whoever is over a limit is refused here, and the
//! database is not asked.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::model::rate::{Rate, RateOutcome};
use crate::model::rate_limit::LimitSubject;

/// How many parts the buckets are in, so that requests seldom wait for each other.
const SHARDS: usize = 16;
/// How many buckets there are in a part, at most: some 10 MB for all of a limit's. What comes from
/// more subjects than that, before the full ones are forgotten, is a crowd.
const MAX_PER_SHARD: usize = 10_000;

/// Buckets by subject: each is kept as the time when it is full again.
pub struct LocalBuckets([Mutex<Shard>; SHARDS]);

type Shard = HashMap<LimitSubject, Instant>;

impl Default for LocalBuckets {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Mutex::default()))
    }
}

impl LocalBuckets {
    /// Judges one try of the subject; where there is no room for it, of the crowd.
    pub fn take(&self, subject: LimitSubject, rate: &Rate, now: Instant) -> RateOutcome {
        let own = self.try_take(subject, rate, now);
        own.unwrap_or_else(|| self.take_shared(subject, rate, now))
    }

    /// Judges one try of the subject; `None` where there is no room for it.
    pub fn try_take(
        &self,
        subject: LimitSubject,
        rate: &Rate,
        now: Instant,
    ) -> Option<RateOutcome> {
        let mut shard = self.shard(subject);
        has_capacity(&shard, subject).then(|| take(&mut shard, subject, rate, now))
    }

    /// Judges one try of all those whom there is no room for.
    pub fn take_shared(&self, subject: LimitSubject, rate: &Rate, now: Instant) -> RateOutcome {
        take(&mut self.shard(subject), LimitSubject::SHARED, rate, now)
    }

    /// Makes the subject's bucket as full as somebody knows it is who knows better.
    pub fn set(&self, subject: LimitSubject, until_full: Duration, now: Instant) {
        let mut shard = self.shard(subject);
        if has_capacity(&shard, subject) {
            shard.insert(subject, now + until_full);
        }
    }

    /// Gives the subject one try back.
    pub fn give_back(&self, subject: LimitSubject, rate: &Rate) {
        if let Some(full_at) = self.shard(subject).get_mut(&subject) {
            *full_at = full_at.checked_sub(rate.interval()).unwrap_or(*full_at);
        }
    }

    /// The verdict that one try of the subject would get.
    pub fn peek(&self, subject: LimitSubject, rate: &Rate, now: Instant) -> RateOutcome {
        let full_at = self.shard(subject).get(&subject).copied();
        let until_full = full_at.map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
        rate.check(until_full).0
    }

    /// Fills the subject's bucket.
    pub fn refill(&self, subject: LimitSubject) {
        self.shard(subject).remove(&subject);
    }

    /// Forgets buckets that are full.
    pub fn forget_full(&self, now: Instant) {
        for shard in &self.0 {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.retain(|_, full_at| *full_at > now);
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

/// Looking for more room would make each request of a flood as slow as all of them.
fn has_capacity(shard: &Shard, subject: LimitSubject) -> bool {
    shard.len() < MAX_PER_SHARD || shard.contains_key(&subject)
}

fn take(shard: &mut Shard, subject: LimitSubject, rate: &Rate, now: Instant) -> RateOutcome {
    let full_at = shard.get(&subject).copied();
    let until_full = full_at.map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
    let (verdict, after) = rate.check(until_full);
    if let Some(after) = after {
        shard.insert(subject, now + after);
    }
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(number: u128) -> LimitSubject {
        LimitSubject::from_id(uuid::Uuid::from_u128(number << 64))
    }

    #[test]
    fn each_subject_has_a_bucket_of_its_own_which_fills_again() {
        let (wall, rate, now) = (LocalBuckets::default(), Rate::new(2, 10), Instant::now());
        let [one, other] = [1, 2].map(subject);
        let refusals = |subject, at| wall.take(subject, &rate, at).is_rejected();
        assert_eq!([0, 1, 2].map(|_| refusals(one, now)), [false, false, true]);
        assert!(!refusals(other, now));
        assert!(!refusals(one, now + Duration::from_secs(5)));
        assert!(refusals(one, now + Duration::from_secs(5)));
        wall.refill(one);
        assert!(!refusals(one, now + Duration::from_secs(5)));
    }

    #[test]
    fn a_try_that_is_given_back_is_there_again_and_no_bucket_holds_more_than_its_quota() {
        let (wall, rate, now) = (LocalBuckets::default(), Rate::new(2, 10), Instant::now());
        let take = || !wall.take(subject(1), &rate, now).is_rejected();
        assert_eq!([0, 1, 2].map(|_| take()), [true, true, false]);
        wall.give_back(subject(1), &rate);
        assert_eq!([0, 1].map(|_| take()), [true, false]);
        (0..5).for_each(|_| wall.give_back(subject(1), &rate));
        assert_eq!([0, 1, 2].map(|_| take()), [true, true, false]);
    }

    #[test]
    fn a_bucket_that_is_set_is_as_full_as_that() {
        let (wall, rate, now) = (LocalBuckets::default(), Rate::new(2, 10), Instant::now());
        wall.set(subject(1), Duration::from_secs(8), now);
        let verdict = wall.take(subject(1), &rate, now);
        assert_eq!(verdict.retry_after, Some(Duration::from_secs(3)));
        wall.set(subject(1), Duration::ZERO, now);
        assert_eq!(wall.take(subject(1), &rate, now).remaining, 1);
    }

    #[test]
    fn steady_refused_traffic_pushes_nothing_on() {
        let (wall, rate, start) = (LocalBuckets::default(), Rate::new(1, 10), Instant::now());
        let passed = (0..100).filter(|second| {
            let now = start + Duration::from_secs(*second);
            !wall.take(subject(1), &rate, now).is_rejected()
        });
        assert_eq!(passed.count(), 10);
    }

    #[test]
    fn more_subjects_than_there_is_room_for_share_one_bucket_and_no_more_memory() {
        let (wall, rate, now) = (LocalBuckets::default(), Rate::new(1, 3_600), Instant::now());
        let many = u32::try_from(SHARDS * MAX_PER_SHARD * 2).expect("a number");
        let passed = (0..many)
            .filter(|number| !wall.take(subject((*number).into()), &rate, now).is_rejected());
        assert!(passed.count() <= SHARDS * (MAX_PER_SHARD + 1));
        // One who is known still has their own, and one who is not has none.
        assert!(wall.try_take(subject(0), &rate, now).is_some());
        assert_eq!(wall.try_take(subject(many.into()), &rate, now), None);
        let kept: usize = wall.0.iter().map(|shard| shard.lock().expect("no panic").len()).sum();
        assert!(kept <= SHARDS * (MAX_PER_SHARD + 1));
        wall.forget_full(now + Duration::from_hours(2));
        let kept: usize = wall.0.iter().map(|shard| shard.lock().expect("no panic").len()).sum();
        assert_eq!(kept, 0);
    }
}
