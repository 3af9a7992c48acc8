//! An organization as one of its people sees it.

use chrono::{DateTime, Utc};

use crate::model::Invalid;
use crate::model::plan::Plan;
use crate::model::role::Role;

/// What an organization is called: 1 to 128 characters, none of them a control character.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrganizationName(String);

impl OrganizationName {
    /// The longest name, in Unicode scalar values.
    pub const MAX: usize = 128;

    /// Reads a name.
    ///
    /// # Errors
    /// Any other text, in words for the caller.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        if text.chars().any(char::is_control) {
            return Err("must not contain control characters".into());
        }
        match text.chars().count() {
            0 => Err("must not be empty".into()),
            length if length > Self::MAX => {
                Err(format!("must be at most {} characters long", Self::MAX).into())
            }
            _ => Ok(Self(text.to_owned())),
        }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// An organization, and the role of whoever looks at it.
#[derive(Clone, Debug)]
pub struct Organization {
    /// Its id, as callers see it.
    pub handle: String,
    /// What it is called.
    pub name: String,
    /// What it pays for.
    pub plan: Plan,
    /// The role of whoever looks; `None` for the organization's own keys.
    pub role: Option<Role>,
    /// Where its keys may be used from in a browser; nowhere in particular where empty.
    pub allowed_origins: Vec<String>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
}
