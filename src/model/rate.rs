//! The generic cell rate algorithm (GCRA). A bucket of `quota` permits refills steadily, from empty
//! to full in one window; a rejected attempt takes nothing.

use std::time::Duration;

/// How many tries there are in a window: as many at once, then one for each part of the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many; at least 1.
    pub quota: u32,
    /// How long the bucket takes to refill completely.
    pub window: Duration,
}

impl Rate {
    /// `quota` tries in `seconds`.
    #[must_use]
    pub const fn new(quota: u32, seconds: u64) -> Self {
        Self { quota, window: Duration::from_secs(seconds) }
    }

    /// How long one permit takes to refill.
    #[must_use]
    pub fn interval(&self) -> Duration {
        self.window / self.quota.max(1)
    }

    /// Decides on an attempt, where the bucket takes `until_full` from now to be full again.
    /// Returns how long it takes after the attempt, if that is allowed.
    #[must_use]
    pub fn check(&self, until_full: Duration) -> (RateOutcome, Option<Duration>) {
        let after = until_full + self.interval();
        if after <= self.window {
            return (self.allowed(after), Some(after));
        }
        (self.rejected(until_full), None)
    }

    /// The outcome of an allowed attempt that left the bucket this long from full.
    #[must_use]
    pub fn allowed(&self, until_full: Duration) -> RateOutcome {
        let free = self.window.saturating_sub(until_full).as_nanos();
        let remaining = free.checked_div(self.interval().as_nanos()).unwrap_or(0);
        let remaining = u32::try_from(remaining).unwrap_or(u32::MAX);
        RateOutcome { rate: *self, remaining, until_full, retry_after: None }
    }

    /// The verdict on a try that was rejected, with the bucket this long from full.
    #[must_use]
    pub fn rejected(&self, until_full: Duration) -> RateOutcome {
        let wait = (until_full + self.interval()).saturating_sub(self.window);
        RateOutcome { rate: *self, remaining: 0, until_full, retry_after: Some(wait) }
    }
}

/// What became of a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateOutcome {
    /// The rate that was applied.
    pub rate: Rate,
    /// How many more there are now.
    pub remaining: u32,
    /// How long until all are there again.
    pub until_full: Duration,
    /// After a rejection, how long until an attempt is allowed.
    pub retry_after: Option<Duration>,
}

impl RateOutcome {
    /// Whether the try was rejected.
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
    fn a_full_bucket_gives_its_quota_at_once_and_then_one_for_each_part_of_the_window() {
        let rate = Rate::new(3, 30);
        let mut until_full = Duration::ZERO;
        for remaining in [2, 1, 0] {
            let (verdict, after) = rate.check(until_full);
            assert_eq!((verdict.remaining, verdict.is_rejected()), (remaining, false));
            until_full = after.expect("let through");
        }
        let (refused, after) = rate.check(until_full);
        assert_eq!((refused.retry_after, after), (Some(10 * SECOND), None));
        let (refused, _) = rate.check(until_full.saturating_sub(9 * SECOND));
        assert_eq!(refused.retry_after, Some(SECOND));
        let (next, _) = rate.check(until_full.saturating_sub(10 * SECOND));
        assert!(!next.is_rejected());
    }

    proptest! {
        /// No window allows more than twice the quota, and a rejection delays nothing.
        #[test]
        fn no_window_lets_more_through_than_the_bucket_and_what_flows_in(
            quota in 1_u32..50, seconds in 1_u64..100,
            waits in prop::collection::vec(0_u64..2_000, 1..300),
        ) {
            let rate = Rate::new(quota, seconds);
            let (mut now, mut full_at) = (Duration::ZERO, Duration::ZERO);
            let mut passed = Vec::new();
            for wait in waits {
                now += Duration::from_millis(wait);
                let (verdict, after) = rate.check(full_at.saturating_sub(now));
                prop_assert_eq!(verdict.is_rejected(), after.is_none());
                if let Some(after) = after {
                    full_at = now + after;
                    passed.push(now);
                } else {
                    let wait = verdict.retry_after.expect("a time");
                    let (later, _) = rate.check(full_at.saturating_sub(now + wait));
                    prop_assert!(!later.is_rejected());
                }
            }
            for (at, start) in passed.iter().enumerate() {
                let end = *start + rate.window;
                let within = passed[at..].iter().filter(|it| **it < end).count();
                prop_assert!(within <= 2 * quota as usize);
            }
        }
    }
}
