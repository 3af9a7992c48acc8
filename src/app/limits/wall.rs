//! The wall: buckets in this process, by subject. A flood stops here and reaches no database.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::model::limit::Subject;
use crate::model::rate::{Rate, Verdict};

/// How many parts the buckets are in, so that requests seldom wait for each other.
const SHARDS: usize = 16;
/// How many buckets there are in a part, at most: some 10 MB for all of a limit's. What comes from
/// more subjects than that, before the full ones are forgotten, shares one bucket.
const MOST: usize = 10_000;

/// Buckets by subject: each is kept as the time when it is full again.
pub struct Wall([Mutex<HashMap<Subject, Instant>>; SHARDS]);

impl Default for Wall {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Mutex::default()))
    }
}

impl Wall {
    /// Judges one try of the subject.
    pub fn take(&self, subject: Subject, rate: &Rate, now: Instant) -> Verdict {
        let mut shard = self.shard(subject);
        // Looking for room here would make each request of a flood as slow as all of them.
        let is_crowded = shard.len() >= MOST && !shard.contains_key(&subject);
        let subject = if is_crowded { Subject::CROWD } else { subject };
        let full_at = shard.get(&subject).copied();
        let until_full = full_at.map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
        let (verdict, after) = rate.judge(until_full);
        if let Some(after) = after {
            shard.insert(subject, now + after);
        }
        verdict
    }

    /// The verdict that one try of the subject would get.
    pub fn look(&self, subject: Subject, rate: &Rate, now: Instant) -> Verdict {
        let full_at = self.shard(subject).get(&subject).copied();
        let until_full = full_at.map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
        rate.judge(until_full).0
    }

    /// Fills the subject's bucket.
    pub fn refill(&self, subject: Subject) {
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

    fn shard(&self, subject: Subject) -> std::sync::MutexGuard<'_, HashMap<Subject, Instant>> {
        let shard = &self.0[subject.spread() % SHARDS];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_subject_has_a_bucket_of_its_own_which_fills_again() {
        let (wall, rate, now) = (Wall::default(), Rate::new(2, 10), Instant::now());
        let [one, other] = ["one", "other"].map(Subject::text);
        let refusals = |subject, at| wall.take(subject, &rate, at).is_refusal();
        assert_eq!([0, 1, 2].map(|_| refusals(one, now)), [false, false, true]);
        assert!(!refusals(other, now));
        assert!(!refusals(one, now + Duration::from_secs(5)));
        assert!(refusals(one, now + Duration::from_secs(5)));
        wall.refill(one);
        assert!(!refusals(one, now + Duration::from_secs(5)));
    }

    #[test]
    fn steady_refused_traffic_pushes_nothing_on() {
        let (wall, rate, start) = (Wall::default(), Rate::new(1, 10), Instant::now());
        let subject = Subject::text("one");
        let passed = (0..100).filter(|second| {
            let now = start + Duration::from_secs(*second);
            !wall.take(subject, &rate, now).is_refusal()
        });
        assert_eq!(passed.count(), 10);
    }

    #[test]
    fn more_subjects_than_there_is_room_for_share_one_bucket_and_no_more_memory() {
        let (wall, rate, now) = (Wall::default(), Rate::new(1, 3_600), Instant::now());
        let many = u32::try_from(SHARDS * MOST * 2).expect("a number");
        let passed = (0..many).filter(|number| {
            let subject = Subject::id(uuid::Uuid::from_u128(u128::from(*number) << 64));
            !wall.take(subject, &rate, now).is_refusal()
        });
        assert!(passed.count() <= SHARDS * (MOST + 1));
        let kept: usize = wall.0.iter().map(|shard| shard.lock().expect("no panic").len()).sum();
        assert!(kept <= SHARDS * (MOST + 1));
        wall.forget_full(now + Duration::from_hours(2));
        let kept: usize = wall.0.iter().map(|shard| shard.lock().expect("no panic").len()).sum();
        assert_eq!(kept, 0);
    }
}
