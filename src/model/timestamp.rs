//! The wire format of times: RFC 3339, in milliseconds.

use chrono::{DateTime, Datelike, SecondsFormat, SubsecRound, Timelike, Utc};

use crate::model::ValidationError;

/// Parses a time with a zone, truncated to milliseconds.
///
/// # Errors
/// The text is not a time with a zone, its year in UTC does not have four digits, or it is a leap
/// second, which Postgres does not support.
pub fn parse(text: &str) -> Result<DateTime<Utc>, ValidationError> {
    let parsed = DateTime::parse_from_rfc3339(text).ok().map(|moment| moment.to_utc());
    let parsed = parsed.filter(|moment| {
        (0..=9999).contains(&moment.year()) && moment.nanosecond() < 1_000_000_000
    });
    parsed
        .map(|moment| moment.trunc_subsecs(3))
        .ok_or("must be a time with a zone, such as 2036-01-01T00:00:00Z".into())
}

/// Formats a time for a response of any family.
#[must_use]
pub fn format(moment: DateTime<Utc>) -> String {
    moment.to_rfc3339_opts(SecondsFormat::Millis, true)
}
