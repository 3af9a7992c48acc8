//! The generic cell rate algorithm (GCRA). A bucket of `quota` permits refills steadily, from empty
//! to full in one window; a rejected attempt takes nothing.

use std::time::Duration;

/// A rate: `quota` attempts at once from a full bucket, then one per [`Rate::interval`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// The number of attempts that a full bucket allows; at least 1.
    pub quota: u32,
    /// The time that an empty bucket takes to refill completely.
    pub window: Duration,
}

impl Rate {
    /// Creates a rate of `quota` attempts per `seconds`.
    #[must_use]
    pub const fn new(quota: u32, seconds: u64) -> Self {
        Self { quota, window: Duration::from_secs(seconds) }
    }

    /// Returns the time that one permit takes to refill.
    #[must_use]
    pub fn interval(&self) -> Duration {
        self.window / self.quota.max(1)
    }

    /// Checks an attempt on a bucket that is full in `until_full` from now. Returns the outcome
    /// and, if the attempt is allowed, the time until the bucket is full after it.
    #[must_use]
    pub fn check(&self, until_full: Duration) -> (RateOutcome, Option<Duration>) {
        self.check_units(until_full, 1)
    }

    /// Checks an attempt that counts as several, as [`Self::check`] does. One that counts as more
    /// than the quota is always rejected.
    #[must_use]
    pub fn check_units(&self, until_full: Duration, units: u32) -> (RateOutcome, Option<Duration>) {
        let after = until_full + self.interval() * units;
        if after <= self.window {
            return (self.allowed(after), Some(after));
        }
        let wait = after.saturating_sub(self.window);
        (RateOutcome { retry_after: Some(wait), ..self.allowed(until_full) }, None)
    }

    /// Returns the outcome of an allowed attempt, after which the bucket is full in `until_full`.
    #[must_use]
    pub fn allowed(&self, until_full: Duration) -> RateOutcome {
        let available = self.window.saturating_sub(until_full).as_nanos();
        let remaining = available.checked_div(self.interval().as_nanos()).unwrap_or(0);
        let remaining = u32::try_from(remaining).unwrap_or(u32::MAX);
        RateOutcome { rate: *self, remaining, until_full, retry_after: None }
    }

    /// Returns the outcome of a rejected attempt on a bucket that is full in `until_full`.
    #[must_use]
    pub fn rejected(&self, until_full: Duration) -> RateOutcome {
        let wait = (until_full + self.interval()).saturating_sub(self.window);
        RateOutcome { rate: *self, remaining: 0, until_full, retry_after: Some(wait) }
    }
}

/// The outcome of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateOutcome {
    /// The rate that was applied.
    pub rate: Rate,
    /// The number of attempts that are allowed now.
    pub remaining: u32,
    /// The time until the bucket is full.
    pub until_full: Duration,
    /// The time until an attempt is allowed; `None` if this one was allowed.
    pub retry_after: Option<Duration>,
}

impl RateOutcome {
    /// Returns whether the attempt was rejected.
    #[must_use]
    pub const fn is_rejected(&self) -> bool {
        self.retry_after.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_full_bucket_allows_its_quota_at_once_and_then_one_attempt_per_interval() {
        let rate = Rate::new(3, 30);
        let mut until_full = Duration::ZERO;
        for remaining in [2, 1, 0] {
            let (outcome, after) = rate.check(until_full);
            assert_eq!((outcome.remaining, outcome.is_rejected()), (remaining, false));
            until_full = after.expect("an allowed attempt");
        }
        let (rejected, after) = rate.check(until_full);
        assert_eq!((rejected.retry_after, after), (Some(10 * SECOND), None));
        let (rejected, _) = rate.check(until_full.saturating_sub(9 * SECOND));
        assert_eq!(rejected.retry_after, Some(SECOND));
        let (next, _) = rate.check(until_full.saturating_sub(10 * SECOND));
        assert!(!next.is_rejected());
    }

    proptest! {
        #[test]
        fn no_window_allows_more_than_twice_the_quota_and_a_retry_in_time_is_allowed(
            quota in 1_u32..50, seconds in 1_u64..100,
            waits in prop::collection::vec(0_u64..2_000, 1..300),
        ) {
            let rate = Rate::new(quota, seconds);
            let (mut now, mut full_at) = (Duration::ZERO, Duration::ZERO);
            let mut allowed_at = Vec::new();
            for wait in waits {
                now += Duration::from_millis(wait);
                let (outcome, after) = rate.check(full_at.saturating_sub(now));
                prop_assert_eq!(outcome.is_rejected(), after.is_none());
                if let Some(after) = after {
                    full_at = now + after;
                    allowed_at.push(now);
                } else {
                    let wait = outcome.retry_after.expect("a rejection");
                    let (later, _) = rate.check(full_at.saturating_sub(now + wait));
                    prop_assert!(!later.is_rejected());
                }
            }
            for (index, start) in allowed_at.iter().enumerate() {
                let end = *start + rate.window;
                let within = allowed_at[index..].iter().filter(|it| **it < end).count();
                prop_assert!(within <= 2 * quota as usize);
            }
        }
    }
}
