//! Named rate limits of a key or an organization, which checks of a credential count against.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::model::ValidationError;
use crate::model::rate::Rate;
use crate::model::rate_limit::LimitSubject;

/// The maximum number of limits of one key or organization.
pub const MAX_LIMITS: usize = 10;
/// The maximum length of a limit's name, in bytes.
const MAX_NAME_LENGTH: usize = 64;
/// The maximum of a limit's units per window, and of the units that one check may count.
pub const MAX_UNITS: i32 = 1_000_000;
/// The longest window, in seconds: a day.
pub const MAX_WINDOW: i32 = 86_400;

/// The name of a limit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LimitName(String);

impl LimitName {
    /// Parses a name of 1 to 64 ASCII letters, digits, `-`, `_` and `.`.
    ///
    /// # Errors
    /// The text is not such a name, or is `org`, the name of the plan's rate limit.
    pub fn parse(text: &str) -> Result<Self, ValidationError> {
        let is_allowed = |it: u8| it.is_ascii_alphanumeric() || b"-_.".contains(&it);
        if !(1..=MAX_NAME_LENGTH).contains(&text.len()) || !text.bytes().all(is_allowed) {
            return Err(
                format!("must be 1 to {MAX_NAME_LENGTH} ASCII letters, digits, -, _ or .").into()
            );
        }
        if text == "org" {
            return Err("must not be org, which is the name of the plan's rate limit".into());
        }
        Ok(Self(text.to_owned()))
    }

    /// Returns the name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A rate limit with a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedLimit {
    /// Its name, unique among those of its key or organization.
    pub name: LimitName,
    /// How many units a full window allows.
    pub limit: u32,
    /// The window, in seconds.
    pub window_s: u32,
    /// Whether every check counts against it; otherwise, only those that name it.
    pub always: bool,
}

impl NamedLimit {
    /// Returns the rate of the limit.
    #[must_use]
    pub fn rate(&self) -> Rate {
        Rate::new(self.limit, self.window_s.into())
    }
}

/// Identifies the bucket of a named limit, by the owner and the position in the owner's list. The
/// name is not part of it, so an owner who renames limits never has more than [`MAX_LIMITS`]
/// buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamedLimitBucket {
    /// The key or the organization.
    pub id: Uuid,
    /// Whether it is an organization.
    pub is_organization: bool,
    /// The position, from 0.
    pub position: usize,
}

impl NamedLimitBucket {
    /// Returns the subject that counts the units.
    #[must_use]
    pub fn subject(self) -> LimitSubject {
        LimitSubject::from_id(self.id).with_number(self.position as u64 + 1)
    }
}

/// The named limits of a key or an organization.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamedLimits {
    limits: Vec<NamedLimit>,
    /// Whether the stored limits have a form that this version does not know. Checks fail then.
    is_unreadable: bool,
}

impl NamedLimits {
    /// Creates a list of at most [`MAX_LIMITS`] limits with different names.
    ///
    /// # Errors
    /// There are more, or two have the same name.
    pub fn new(limits: Vec<NamedLimit>) -> Result<Self, ValidationError> {
        if limits.len() > MAX_LIMITS {
            return Err(format!("must have at most {MAX_LIMITS} limits").into());
        }
        let names: BTreeSet<_> = limits.iter().map(|limit| &limit.name).collect();
        if names.len() < limits.len() {
            return Err("must not have two limits with the same name".into());
        }
        Ok(Self { limits, is_unreadable: false })
    }

    /// Returns the limits; none if they are unreadable.
    #[must_use]
    pub fn as_slice(&self) -> &[NamedLimit] {
        &self.limits
    }

    /// Returns whether it is certain that there is no limit: false if the stored ones are
    /// unreadable.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.limits.is_empty() && !self.is_unreadable
    }

    /// Returns whether the stored limits cannot be read, and so cannot be counted.
    #[must_use]
    pub fn is_unreadable(&self) -> bool {
        self.is_unreadable
    }

    /// Creates the limits from the database's column. A value of an unknown form makes them
    /// unreadable; it is not an error.
    #[must_use]
    pub fn from_stored(value: Option<serde_json::Value>) -> Self {
        let limits = value.map(serde_json::from_value).transpose();
        match limits {
            Ok(limits) => Self { limits: limits.unwrap_or_default(), is_unreadable: false },
            Err(_) => Self { limits: Vec::new(), is_unreadable: true },
        }
    }

    /// Returns the value of the database's column; `None` if there is no limit. Must not be stored
    /// if the limits are unreadable, because it would remove them.
    #[must_use]
    pub fn to_stored(&self) -> Option<serde_json::Value> {
        (!self.limits.is_empty()).then(|| serde_json::json!(self.limits))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(name: &str) -> NamedLimit {
        let name = LimitName::parse(name).expect("a name");
        NamedLimit { name, limit: 10, window_s: 60, always: false }
    }

    #[test]
    fn names_are_short_words_and_unique_in_a_list() {
        for name in ["search", "a", "Export-1", "reports.daily_2"] {
            assert!(LimitName::parse(name).is_ok(), "{name}");
        }
        for name in ["", "org", "two words", "a,b", "é", &"x".repeat(65)] {
            assert!(LimitName::parse(name).is_err(), "{name}");
        }
        assert!(NamedLimits::new(vec![limit("a"), limit("b")]).is_ok());
        assert!(NamedLimits::new(vec![limit("a"), limit("a")]).is_err());
        let eleven = (0..11).map(|index| limit(&format!("limit-{index}"))).collect();
        assert!(NamedLimits::new(eleven).is_err());
    }

    #[test]
    fn stored_limits_are_read_as_they_were_written() {
        let limits = NamedLimits::new(vec![limit("a"), limit("b")]).expect("two limits");
        assert_eq!(NamedLimits::from_stored(limits.to_stored()), limits);
        assert_eq!(NamedLimits::from_stored(None), NamedLimits::default());
        assert_eq!(NamedLimits::default().to_stored(), None);
    }

    #[test]
    fn stored_limits_of_an_unknown_form_are_not_taken_for_none() {
        let unknown = serde_json::json!([{ "name": "a", "limit": 1, "window_s": 1 }]);
        let unreadable = NamedLimits::from_stored(Some(unknown));
        assert!(unreadable.is_unreadable() && !unreadable.is_none());
        assert!(NamedLimits::default().is_none());
    }

    #[test]
    fn each_limit_of_each_owner_is_counted_separately() {
        let owner = |id: u128, position| NamedLimitBucket {
            id: Uuid::from_u128(id << 64),
            is_organization: false,
            position,
        };
        let subjects =
            [owner(1, 0), owner(1, 1), owner(2, 0), owner(2, 1)].map(NamedLimitBucket::subject);
        for (index, subject) in subjects.iter().enumerate() {
            assert!(!subjects[..index].contains(subject), "{index}");
        }
    }
}
