//! What a use of a key is attributed to: a resource, which is the template of a route, such as
//! `GET /search`, and tags.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, Utc};

use crate::model::ValidationError;
use crate::model::ids::{KeyId, OrganizationId};

/// The longest resource, in characters.
pub const MAX_RESOURCE_CHARS: usize = 128;
/// The most tags of one use.
const MAX_TAGS: usize = 8;
/// The longest name of a tag, in bytes.
const MAX_TAG_NAME: usize = 32;
/// The longest value of a tag, in characters.
const MAX_TAG_VALUE: usize = 64;
/// The maximum number of different attributions that are recorded for an organization in a UTC day.
/// Usage with any other is recorded as [`Attribution::other`].
pub const MAX_ATTRIBUTIONS_PER_DAY: usize = 200;

/// What a use of a key is attributed to. The default has no resource and no tags.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attribution {
    /// The resource: the template of a route; empty for none.
    pub resource: String,
    /// The tags.
    pub tags: Tags,
}

impl Attribution {
    /// Returns the attribution of all usage beyond [`MAX_ATTRIBUTIONS_PER_DAY`].
    #[must_use]
    pub fn other() -> Self {
        Self { resource: "other".to_owned(), tags: Tags::default() }
    }
}

/// Tags: pairs of a name and a value.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tags(BTreeMap<String, String>);

impl Tags {
    /// Parses at most 8 texts of the form `name=value` with different names.
    ///
    /// # Errors
    /// There are more, two have the same name, or one has another form.
    pub fn parse(texts: &[String]) -> Result<Self, ValidationError> {
        if texts.len() > MAX_TAGS {
            return Err(format!("must have at most {MAX_TAGS} tags").into());
        }
        let tags: Result<BTreeMap<_, _>, _> = texts.iter().map(|text| parse_tag(text)).collect();
        let tags = tags?;
        if tags.len() < texts.len() {
            return Err("must not have two tags with the same name".into());
        }
        Ok(Self(tags))
    }

    /// Returns the text of the database's column: sorted, and separated by commas.
    #[must_use]
    pub fn to_stored(&self) -> String {
        let tags = self.0.iter().map(|(name, value)| format!("{name}={value}"));
        tags.collect::<Vec<_>>().join(",")
    }
}

fn parse_tag(text: &str) -> Result<(String, String), ValidationError> {
    let form = || {
        format!(
            "must be name=value: a name of 1 to {MAX_TAG_NAME} letters, digits, -, _ or ., and a \
             value of 1 to {MAX_TAG_VALUE} characters without commas or control characters"
        )
    };
    let (name, value) = text.split_once('=').ok_or_else(form)?;
    let is_name = |it: u8| it.is_ascii_alphanumeric() || b"-_.".contains(&it);
    let is_value = |it: char| it != ',' && !it.is_control();
    let is_valid = (1..=MAX_TAG_NAME).contains(&name.len())
        && name.bytes().all(is_name)
        && (1..=MAX_TAG_VALUE).contains(&value.chars().count())
        && value.chars().all(is_value);
    if is_valid { Ok((name.to_owned(), value.to_owned())) } else { Err(form().into()) }
}

/// The units that a key, or an organization itself, used in one hour with one attribution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttributedUsage {
    /// The organization.
    pub organization: OrganizationId,
    /// The start of the hour, in UTC.
    pub hour: DateTime<Utc>,
    /// The key or token; `None` for usage of the organization itself.
    pub key: Option<KeyId>,
    /// What they are attributed to.
    pub attribution: Attribution,
    /// The units.
    pub units: i64,
}

impl AttributedUsage {
    /// Returns the UTC day of the hour.
    #[must_use]
    pub fn day(&self) -> NaiveDate {
        self.hour.date_naive()
    }
}

/// Attributed usage as it is exported.
#[derive(Clone, Debug)]
pub struct ExportedUsage {
    /// The hour, the organization, the key, and what the units are attributed to: beyond
    /// [`MAX_ATTRIBUTIONS_PER_DAY`], [`Attribution::other`].
    pub position: ExportPosition,
    /// The public id of the organization.
    pub handle: String,
    /// The operator's own id for the organization.
    pub organization_external_id: Option<String>,
    /// The key's id in another system, which its organization can set.
    pub key_external_id: Option<String>,
    /// The units.
    pub units: i64,
}

/// The position of a row in an export, whose order is that of these fields.
#[derive(Clone, Debug)]
pub struct ExportPosition {
    /// The start of the hour, in UTC.
    pub hour: DateTime<Utc>,
    /// The organization.
    pub organization: OrganizationId,
    /// The key or token; `None` for usage of the organization itself.
    pub key: Option<KeyId>,
    /// The template of the route; empty for none.
    pub resource: String,
    /// The tags, as they are stored.
    pub tags: String,
}

/// An event of usage that an operator's service reports.
#[derive(Clone, Debug)]
pub struct UsageEvent {
    /// What reports it.
    pub source: String,
    /// Its id, unique within the source.
    pub id: String,
    /// When the units were used.
    pub time: DateTime<Utc>,
    /// Whose usage it is.
    pub owner: UsageOwner,
    /// The units.
    pub units: i64,
    /// What they are attributed to.
    pub attribution: Attribution,
}

/// Whose usage an event reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UsageOwner {
    /// A key, by its public id.
    Key(String),
    /// An organization, by its public id.
    Organization(String),
    /// The event names both.
    Both,
    /// The event names neither.
    Neither,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(texts: &[&str]) -> Result<Tags, ValidationError> {
        Tags::parse(&texts.iter().map(|&it| it.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn tags_are_pairs_with_different_names_in_a_fixed_order() {
        let sorted = tags(&["team=ops", "region=eu west"]).expect("two tags");
        assert_eq!(sorted.to_stored(), "region=eu west,team=ops");
        assert_eq!(tags(&["region=eu west", "team=ops"]), Ok(sorted));
        assert_eq!(tags(&["a=b=c"]).expect("a tag").to_stored(), "a=b=c");
        let long = format!("a={}", "x".repeat(65));
        for wrong in [&["a"][..], &["=b"], &["a="], &["a b=c"], &["a=b,c"], &["a=\n"], &[&long]] {
            assert!(tags(wrong).is_err(), "{wrong:?}");
        }
        assert!(tags(&["a=1", "a=2"]).is_err());
        let nine: Vec<String> = (1..=9).map(|number| format!("tag{number}=a")).collect();
        assert!(Tags::parse(&nine).is_err());
        assert!(Tags::parse(&nine[1..]).is_ok());
    }
}
