//! What time it is. Injected, so that a test can hold it still.
//!
//! Times of creation come from here. Whether something has *expired* is never judged by this
//! clock but by the database's, which all replicas share.

use chrono::{DateTime, SubsecRound, Utc};

/// A source of the present.
pub trait Clock: Send + Sync + 'static {
    /// The present, in whole milliseconds: what is stored is what was answered.
    fn now(&self) -> DateTime<Utc>;
}

/// The machine's clock.
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> DateTime<Utc> {
        Utc::now().trunc_subsecs(3)
    }
}
