//! Names of organizations, projects, persons, keys and apps, and ids in other systems.

use crate::model::ValidationError;

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident = $max:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name(String);

        impl $name {
            /// The maximum length, in Unicode scalar values.
            pub const MAX: usize = $max;

            /// Parses a name of 1 to [`Self::MAX`] characters without control characters.
            ///
            /// # Errors
            /// The text is not such a name. The error states what is required.
            pub fn parse(text: &str) -> Result<Self, ValidationError> {
                parse(text, Self::MAX).map(Self)
            }

            /// Returns the name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
    )*};
}

names! {
    /// The name of an organization.
    OrganizationName = 128;
    /// The name of a project.
    ProjectName = 128;
    /// The name of a person.
    PersonName = 256;
    /// The name of a key or a personal access token.
    KeyName = 255;
    /// The name of an app.
    AppName = 64;
    /// The id of an organization or a key in another system.
    ExternalId = 128;
}

impl KeyName {
    /// Parses a name of 1 to `max` characters, for endpoints that accept fewer than
    /// [`Self::MAX`].
    ///
    /// # Errors
    /// The text is not such a name. The error states what is required.
    pub fn parse_up_to(max: usize, text: &str) -> Result<Self, ValidationError> {
        parse(text, max).map(Self)
    }
}

impl PersonName {
    /// Parses a name; `None` if the text is empty.
    ///
    /// # Errors
    /// As for [`PersonName::parse`].
    pub fn parse_optional(text: &str) -> Result<Option<Self>, ValidationError> {
        if text.is_empty() { Ok(None) } else { Self::parse(text).map(Some) }
    }
}

/// Returns whether a character changes the direction in which the text after it is displayed, so
/// that a name could make what follows it unreadable (Unicode UAX #9, explicit formatting).
fn changes_direction(it: char) -> bool {
    matches!(it, '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

fn parse(text: &str, max: usize) -> Result<String, ValidationError> {
    if text.chars().any(|it| it.is_control() || changes_direction(it)) {
        return Err("must not contain control characters".into());
    }
    match text.chars().count() {
        0 => Err("must not be empty".into()),
        length if length > max => Err(format!("must be at most {max} characters long").into()),
        _ => Ok(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_no_characters_that_control_the_display_of_other_text() {
        for name in ["Planner", "مخطط", "תכנון\u{200F}", "計画", "a\u{0301}"] {
            assert!(AppName::parse(name).is_ok(), "{name}");
        }
        for control in ['\n', '\u{0}', '\u{7F}', '\u{202A}', '\u{202E}', '\u{2066}', '\u{2069}'] {
            assert!(AppName::parse(&format!("Planner{control}")).is_err(), "{control:?}");
        }
    }
}
