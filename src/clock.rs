//! The current time. It is injected, so that a test can freeze it.
//!
//! Creation times come from here. Whether something has *expired* is decided by the database's
//! clock, which all servers share, and never by this one.

use chrono::{DateTime, SubsecRound, Utc};

/// A source of the current time.
pub trait Clock: Send + Sync + 'static {
    /// Returns the current time in whole milliseconds, so that a response and the stored row agree.
    fn now(&self) -> DateTime<Utc>;
}

/// The machine's clock.
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> DateTime<Utc> {
        Utc::now().trunc_subsecs(3)
    }
}
