//! Remembers for a second that a query of the rate limit table failed, so that not every request
//! waits for an unreachable database.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The time after a failure in which the table is not queried.
const PAUSE: Duration = Duration::from_secs(1);

/// The last outage of the rate limit table.
pub struct Outage {
    start: Instant,
    /// The end of the pause, in milliseconds after the start.
    until: AtomicU64,
}

impl Outage {
    /// Creates the state without an outage.
    pub fn new(start: Instant) -> Self {
        Self { start, until: AtomicU64::new(0) }
    }

    /// Records that a query failed.
    pub fn record(&self, now: Instant) {
        self.until.store(self.milliseconds(now + PAUSE), Ordering::Relaxed);
    }

    /// Returns whether a query failed within the last second.
    pub fn is_ongoing(&self, now: Instant) -> bool {
        self.milliseconds(now) < self.until.load(Ordering::Relaxed)
    }

    fn milliseconds(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.start).as_millis();
        u64::try_from(since).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_lasts_one_second_after_a_failure() {
        let start = Instant::now();
        let (outage, failed) = (Outage::new(start), start + Duration::from_mins(1));
        assert!(!outage.is_ongoing(start));
        outage.record(failed);
        assert!(
            outage.is_ongoing(failed) && outage.is_ongoing(failed + Duration::from_millis(999))
        );
        assert!(!outage.is_ongoing(failed + PAUSE));
    }
}
