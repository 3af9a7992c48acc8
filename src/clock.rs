//! The current time. It is injected, so that a test can freeze it.
//!
//! Creation times come from here, and so do the checks of what carries its own times: signed access
//! tokens, Stripe's signatures, OAuth's `max_age`. Whether a stored key, token, session or link has
//! expired is decided by the database's clock, which all servers share.

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
