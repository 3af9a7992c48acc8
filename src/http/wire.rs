//! The wire format of times in all families, but for those that a standard defines in seconds.

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use serde::{Serialize, Serializer};

use crate::model::timestamp;

/// A time: RFC 3339, UTC, milliseconds.
#[derive(Clone, Copy, Debug, utoipa::ToSchema)]
#[schema(as = Timestamp, value_type = String, format = DateTime,
         examples("2026-05-08T09:56:42.855Z"))]
pub struct Timestamp(pub DateTime<Utc>);

impl Timestamp {
    /// Returns the start of a UTC day.
    #[must_use]
    pub fn start_of(day: NaiveDate) -> Self {
        Self(day.and_time(NaiveTime::MIN).and_utc())
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&timestamp::format(self.0))
    }
}
