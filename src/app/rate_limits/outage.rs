//! Remembers for a moment that the table of limits did not answer, so that not every request waits
//! for a database that is away.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long nobody asks again.
const PAUSE: Duration = Duration::from_secs(1);

/// Whether the table is worth asking.
pub struct Outage {
    start: Instant,
    /// In milliseconds after the start.
    until: AtomicU64,
}

impl Outage {
    /// None so far.
    pub fn new(start: Instant) -> Self {
        Self { start, until: AtomicU64::new(0) }
    }

    /// Notes that the table did not answer.
    pub fn record(&self, now: Instant) {
        self.until.store(self.milliseconds(now + PAUSE), Ordering::Relaxed);
    }

    /// Whether it did not answer a moment ago.
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
    fn what_did_not_answer_is_left_alone_for_a_second_and_then_asked_again() {
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
