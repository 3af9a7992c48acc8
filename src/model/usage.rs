//! Counts of requests, and the periods that they cover.

use std::time::Duration;

use chrono::{DateTime, Datelike, Days, Months, NaiveDate, NaiveTime, Utc};

use crate::model::ValidationError;
use crate::model::ids::{KeyId, OrganizationId};

/// The kind of credential that a request was made with, as far as usage distinguishes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UsedCredential {
    /// An organization's key.
    Key,
    /// A personal access token.
    PersonalToken,
    /// An OAuth access token: usage is that of its grant.
    Grant,
}

/// Requests of one key, personal access token or OAuth grant on one UTC day that are not in the
/// database yet.
#[derive(Clone, Debug)]
pub struct UsageTally {
    /// The organization of the requests; `None` if a personal access token was used for none.
    pub organization: Option<OrganizationId>,
    /// The id of the key, the token or the grant.
    pub key: KeyId,
    /// Which of them it is.
    pub credential: UsedCredential,
    /// The UTC day.
    pub day: NaiveDate,
    /// The number of requests that it authenticated, without those rejected with 429.
    pub requests: i64,
    /// The number of rejections: with 403, which `requests` includes, and with 429.
    pub rejected: i64,
    /// The time of the last request.
    pub last_used_at: DateTime<Utc>,
}

/// The requests of one UTC day.
#[derive(Clone, Copy, Debug)]
pub struct DayUsage {
    /// The UTC day.
    pub day: NaiveDate,
    /// The number of requests, without those rejected with 429.
    pub requests: u64,
    /// The number of rejections: with 403, which `requests` includes, and with 429.
    pub rejected: u64,
}

/// The usage of one key, personal access token or OAuth grant.
#[derive(Clone, Debug)]
pub struct KeyUsage {
    /// The id of the key, token or grant.
    pub key: KeyId,
    /// The key's name; always `None` for a token, whose name only its owner may see, and a grant.
    pub name: Option<String>,
    /// The number of requests that it authenticated, without those rejected with 429.
    pub requests: u64,
    /// The time of the last request, if the caller may see it.
    pub last_used_at: Option<DateTime<Utc>>,
}

/// Returns the start of the UTC hour of a time.
#[must_use]
pub fn hour_of(time: DateTime<Utc>) -> DateTime<Utc> {
    let seconds = time.timestamp();
    DateTime::from_timestamp(seconds - seconds.rem_euclid(3_600), 0).unwrap_or(time)
}

/// A range of whole UTC days that includes `start` and excludes `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period {
    /// The first day.
    pub start: NaiveDate,
    /// The day after the last.
    pub end: NaiveDate,
}

impl Period {
    /// Returns the UTC day of `now`.
    #[must_use]
    pub fn day_of(now: DateTime<Utc>) -> Self {
        let start = now.date_naive();
        Self { start, end: start.checked_add_days(Days::new(1)).unwrap_or(start) }
    }

    /// Returns the UTC calendar month of `now`.
    #[must_use]
    pub fn month_of(now: DateTime<Utc>) -> Self {
        Self::month_containing(now.date_naive())
    }

    /// Returns the calendar month that contains a day.
    #[must_use]
    pub fn month_containing(day: NaiveDate) -> Self {
        Self::month_from(day.with_day(1).unwrap_or(day))
    }

    /// Returns the time from `now` to the end of the period; zero if it has ended.
    #[must_use]
    pub fn remaining(self, now: DateTime<Utc>) -> Duration {
        (self.end_time() - now).to_std().unwrap_or_default()
    }

    /// Returns the time at which the period ends.
    #[must_use]
    pub fn end_time(self) -> DateTime<Utc> {
        self.end.and_time(NaiveTime::MIN).and_utc()
    }

    /// Parses a month in the form `YYYY-MM`.
    ///
    /// # Errors
    /// The text is not a month in this form.
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
        month.ok_or("must be a month in the form YYYY-MM, such as 2026-05".into())
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
    fn an_invalid_month_is_an_error() {
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
        fn parsing_a_month_never_panics(text in "\\PC*") {
            let _ = Period::parse_month(&text);
        }
    }
}
