//! The name of a key.

use crate::model::ValidationError;

/// A key's name: 1 to 255 characters, none of them a control character.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyName(String);

impl KeyName {
    /// The longest name there is, in Unicode scalar values.
    pub const MAX: usize = 255;

    /// Parses a name of 1 to `max` characters ([`KeyName::MAX`], or fewer for some routes).
    ///
    /// # Errors
    /// Any other text, with a message for the caller.
    pub fn parse(text: &str, max: usize) -> Result<Self, ValidationError> {
        if text.chars().any(char::is_control) {
            return Err("must not contain control characters".into());
        }
        match text.chars().count() {
            0 => Err("must not be empty".into()),
            length if length > max => Err(format!("must be at most {max} characters long").into()),
            _ => Ok(Self(text.to_owned())),
        }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
