//! Projects of an organization.

use chrono::{DateTime, Utc};

use crate::entropy::Entropy;
use crate::model::ValidationError;
use crate::model::account::{random_lowercase, require_short_name};
use crate::model::ids::{MembershipId, OrganizationId, ProjectId};
use crate::model::names::ProjectName;

/// The maximum length of a slug that is based on a name.
const MAX_SUGGESTED_CHARS: usize = 40;

/// The public data of a project.
#[derive(Clone, Debug)]
pub struct Project {
    /// Its id.
    pub id: ProjectId,
    /// Its name.
    pub name: String,
    /// Its slug, unique in the organization.
    pub slug: String,
    /// Its description.
    pub description: Option<String>,
    /// The public id of the membership that created it.
    pub created_by: String,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// When it was last updated.
    pub updated_at: DateTime<Utc>,
}

/// A project to insert.
pub struct NewProject<'a> {
    /// Its id.
    pub id: ProjectId,
    /// The organization that owns it.
    pub organization: OrganizationId,
    /// Its name.
    pub name: &'a ProjectName,
    /// Its slug.
    pub slug: &'a Slug,
    /// Its description.
    pub description: Option<&'a Description>,
    /// The membership that creates it.
    pub created_by: MembershipId,
    /// The time of its creation.
    pub created_at: DateTime<Utc>,
}

/// Changes to a project. A field that is `None` stays unchanged.
pub struct ProjectChanges {
    /// Its name.
    pub name: Option<ProjectName>,
    /// Its slug.
    pub slug: Option<Slug>,
    /// Its description; `Some(None)` removes it.
    pub description: Option<Option<Description>>,
}

/// A project's short name, unique in its organization: `^[a-z0-9](-?[a-z0-9]){0,62}$`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slug(String);

impl Slug {
    /// Parses a slug.
    ///
    /// # Errors
    /// The text is invalid. The error states what is required.
    pub fn parse(text: &str) -> Result<Self, ValidationError> {
        require_short_name(text)?;
        Ok(Self(text.to_owned()))
    }

    /// Returns a slug based on a name: `my-project` for "My Project!". `None` if the name has no
    /// ASCII letters or digits.
    #[must_use]
    pub fn from_name(name: &ProjectName) -> Option<Self> {
        let lower = name.as_str().to_ascii_lowercase();
        let words = lower.split(|it: char| it.is_whitespace() || it == '-').map(|word| {
            let letters = word.chars().filter(char::is_ascii_alphanumeric);
            letters.collect::<String>()
        });
        let words: Vec<String> = words.filter(|word| !word.is_empty()).collect();
        let slug: String = words.join("-").chars().take(MAX_SUGGESTED_CHARS).collect();
        let slug = slug.trim_end_matches('-');
        (!slug.is_empty()).then(|| Self(slug.to_owned()))
    }

    /// Returns a random slug, based on one that is taken, if any.
    pub fn random(taken: Option<&Self>, entropy: &dyn Entropy) -> Self {
        let base = taken.map_or("project", Self::as_str);
        Self(format!("{base}-{}", random_lowercase(entropy)))
    }

    /// Returns the slug as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A project's description: at most 1,024 characters. Newlines and tabs are allowed, other control
/// characters are not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description(String);

impl Description {
    /// The maximum length, in Unicode scalar values.
    pub const MAX: usize = 1024;

    /// Parses a description.
    ///
    /// # Errors
    /// The text is invalid. The error states what is required.
    pub fn parse(text: &str) -> Result<Self, ValidationError> {
        if text.chars().any(|it| it.is_control() && it != '\n' && it != '\t') {
            return Err("must not contain control characters except newlines and tabs".into());
        }
        if text.chars().count() > Self::MAX {
            return Err(format!("must be at most {} characters long", Self::MAX).into());
        }
        Ok(Self(text.to_owned()))
    }

    /// Returns the description as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::SystemEntropy;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_suggested_slug_and_a_random_one_are_valid(name in "\\PC{1,128}") {
            let suggested = ProjectName::parse(&name).ok().as_ref().and_then(Slug::from_name);
            let random = Slug::random(suggested.as_ref(), &SystemEntropy);
            for slug in suggested.into_iter().chain([random]) {
                prop_assert_eq!(Slug::parse(slug.as_str()), Ok(slug));
            }
        }
    }

    #[test]
    fn a_suggested_slug_is_the_words_of_the_name_joined_with_hyphens() {
        for (name, slug) in [
            ("My Project!", Some("my-project")),
            (" Don't - panic\u{a0}2 ", Some("dont-panic-2")),
            ("名前", None),
            ("- -", None),
        ] {
            let suggested = ProjectName::parse(name).ok().as_ref().and_then(Slug::from_name);
            assert_eq!(suggested.as_ref().map(Slug::as_str), slug, "{name:?}");
        }
        let long = ProjectName::parse(&format!("{} b", "a".repeat(39))).ok();
        let slug = long.as_ref().and_then(Slug::from_name);
        assert_eq!(slug.as_ref().map(Slug::as_str), Some(&*"a".repeat(39)));
    }

    #[test]
    fn a_name_has_1_to_128_characters_and_a_description_at_most_1024() {
        for valid in ["a", " ", &"é".repeat(128)] {
            assert!(ProjectName::parse(valid).is_ok(), "{valid:?}");
        }
        for invalid in ["", "a\nb", "a\0", &"é".repeat(129)] {
            assert!(ProjectName::parse(invalid).is_err(), "{invalid:?}");
        }
        for valid in ["", "a\n\tb", &"é".repeat(1024)] {
            assert!(Description::parse(valid).is_ok(), "{valid:?}");
        }
        for invalid in ["a\r\nb", "\0", "\u{1b}[31m", "\u{85}", &"é".repeat(1025)] {
            assert!(Description::parse(invalid).is_err(), "{invalid:?}");
        }
    }
}
