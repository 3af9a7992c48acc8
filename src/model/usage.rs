//! How much was used, and over which time.

use std::time::Duration;

use chrono::{DateTime, Datelike, Days, Months, NaiveDate, NaiveTime, Utc};

use crate::model::ValidationError;
use crate::model::ids::{KeyId, OrganizationId};

/// Requests of one key or personal access token on one UTC day that are not in the database yet.
#[derive(Clone, Debug)]
pub struct UsageTally {
    /// Where it was used; `None` for a personal access token that is pinned nowhere.
    pub organization: Option<OrganizationId>,
    /// The key.
    pub key: KeyId,
    /// Whether it is a person's.
    pub is_personal: bool,
    /// The UTC day.
    pub day: NaiveDate,
    /// How many requests were authenticated with it and not turned away (429).
    pub requests: i64,
    /// How many of them were denied (403), and how many others turned away.
    pub rejected: i64,
    /// The last of them.
    pub last_used_at: DateTime<Utc>,
}

/// The requests of one UTC day.
#[derive(Clone, Copy, Debug)]
pub struct DayUsage {
    /// The UTC day.
    pub day: NaiveDate,
    /// How many there were, those that were turned away (429) not counted.
    pub requests: u64,
    /// How many of them were denied (403), and how many others turned away.
    pub rejected: u64,
}

/// How much one key or personal access token was used.
#[derive(Clone, Debug)]
pub struct KeyUsage {
    /// The key.
    pub key: KeyId,
    /// Its label; `None` also for a personal access token, whose label is its owner's business.
    pub name: Option<String>,
    /// How many requests were created with it.
    pub requests: u64,
    /// When the last of them was, where the caller may see it.
    pub last_used_at: Option<DateTime<Utc>>,
}

/// Whole UTC days: from the first, included, to the last, excluded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period {
    /// The first day.
    pub start: NaiveDate,
    /// The day after the last.
    pub end: NaiveDate,
}

impl Period {
    /// The UTC day of `now`.
    #[must_use]
    pub fn day_of(now: DateTime<Utc>) -> Self {
        let start = now.date_naive();
        Self { start, end: start.checked_add_days(Days::new(1)).unwrap_or(start) }
    }

    /// The UTC calendar month of `now`.
    #[must_use]
    pub fn month_of(now: DateTime<Utc>) -> Self {
        Self::month_containing(now.date_naive())
    }

    /// The calendar month of a day.
    #[must_use]
    pub fn month_containing(day: NaiveDate) -> Self {
        Self::month_from(day.with_day(1).unwrap_or(day))
    }

    /// How long the period lasts from `now`; zero where it has ended.
    #[must_use]
    pub fn remaining(self, now: DateTime<Utc>) -> Duration {
        let end = self.end.and_time(NaiveTime::MIN).and_utc();
        (end - now).to_std().unwrap_or_default()
    }

    /// Reads `YYYY-MM`.
    ///
    /// # Errors
    /// Any other text.
    pub fn parse_month(text: &str) -> Result<Self, ValidationError> {
        let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        let start = match text.split_once('-') {
            Some((year, month)) if year.len() == 4 && month.len() == 2 => (digits(year)
                && digits(month))
            .then(|| NaiveDate::from_ymd_opt(year.parse().ok()?, month.parse().ok()?, 1))
            .flatten(),
            _ => None,
        };
        let month = start.map(Self::month_from).filter(|month| month.end.year() <= 9999);
        month.ok_or("must be a month as YYYY-MM, such as 2026-05".into())
    }

    fn month_from(start: NaiveDate) -> Self {
        Self { start, end: start.checked_add_months(Months::new(1)).unwrap_or(start) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_month_ends_where_the_next_begins() {
        let month = Period::parse_month("2026-12").expect("a month");
        assert_eq!(month.start, NaiveDate::from_ymd_opt(2026, 12, 1).expect("a day"));
        assert_eq!(month.end, NaiveDate::from_ymd_opt(2027, 1, 1).expect("a day"));
    }

    #[test]
    fn what_is_not_a_month_is_refused() {
        for text in [
            "",
            "2026",
            "2026-13",
            "2026-00",
            "26-05",
            "9999-12",
            "2026-5",
            "+026-05",
            "2026-05-01",
        ] {
            assert!(Period::parse_month(text).is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn reading_a_month_never_panics(text in "\\PC*") {
            let _ = Period::parse_month(&text);
        }
    }
}
