//! Credits: prepaid units of a key or an organization.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::model::usage::Period;

/// The most units that can be set or added at once.
pub const MAX_CREDITS: i32 = 1_000_000_000;

/// When credits are refilled, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefillInterval {
    /// At the start of each day.
    Day,
    /// At the start of each month.
    Month,
}

impl RefillInterval {
    /// Every interval, with its name on the wire and in the database.
    pub const ALL: [(Self, &str); 2] = [(Self::Day, "day"), (Self::Month, "month")];

    /// Returns its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::ALL[self as usize].1
    }

    /// Returns the interval with this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, it)| *it == name).map(|(interval, _)| *interval)
    }

    /// Returns when the next refill after `now` is due.
    #[must_use]
    pub fn next_after(self, now: DateTime<Utc>) -> DateTime<Utc> {
        match self {
            Self::Day => Period::day_of(now).end_time(),
            Self::Month => Period::month_of(now).end_time(),
        }
    }
}

/// A refill: at the start of each interval, at least `amount` units are available.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refill {
    /// How many units are available after it; more if more remained.
    pub amount: i64,
    /// How often.
    pub every: RefillInterval,
}

/// The credits of a key or an organization.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credits {
    /// The units that remain, without those that servers have taken in advance.
    pub remaining: i64,
    /// How they are refilled; `None` if they are not.
    pub refill: Option<Refill>,
}

impl Refill {
    /// Creates a refill from the database's columns; `None` if there is none.
    #[must_use]
    pub fn from_stored(amount: Option<i64>, interval: Option<&str>) -> Option<Self> {
        let (amount, every) = (amount?, interval.and_then(RefillInterval::parse)?);
        Some(Self { amount, every })
    }
}

impl Credits {
    /// Creates credits from the database's columns.
    #[must_use]
    pub fn from_stored(remaining: i64, amount: Option<i64>, interval: Option<&str>) -> Self {
        Self { remaining, refill: Refill::from_stored(amount, interval) }
    }
}

/// A change of credits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CreditChange {
    /// Sets them.
    Set(Credits),
    /// Adds units to those that remain.
    Add(i64),
    /// Removes them: checks are no longer limited by credits.
    Remove,
}

/// A balance of credits, as a check finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CreditBalance {
    /// Its id: that of the organization, or of the first key of a rotation.
    pub id: Uuid,
    /// The number of its last setting or refill.
    pub version: i64,
    /// The units that remain, without those that servers have taken in advance.
    pub remaining: i64,
    /// How it is refilled.
    pub refill: Option<Refill>,
}
