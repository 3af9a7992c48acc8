//! The handle of an organization: its public id (`org_id` on the wire). [`OrganizationId`] is the
//! internal one.
//!
//! [`OrganizationId`]: crate::model::ids::OrganizationId

use crate::entropy::Entropy;
use crate::model::ValidationError;
use crate::model::ids::new_organization_handle;

/// Handles that are reserved because they would be ambiguous in a path or host name.
const RESERVED: [&str; 14] = [
    "me",
    "new",
    "create",
    "admin",
    "api",
    "www",
    "root",
    "system",
    "null",
    "undefined",
    "well-known",
    "health",
    "docs",
    "metrics",
];

/// An organization's handle: `^[A-Za-z0-9_-]{1,64}$` and not reserved. Handles that differ only in
/// case name the same organization, which a unique index in the database enforces; `==` compares
/// exactly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrganizationHandle(String);

impl OrganizationHandle {
    /// Parses a handle that a caller chose or named.
    ///
    /// # Errors
    /// The text is not a valid handle. The error states what is required.
    pub fn parse(text: &str) -> Result<Self, ValidationError> {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if !(1..=64).contains(&text.len()) || !text.bytes().all(is_allowed) {
            return Err("must be 1 to 64 letters, digits, hyphens or underscores".into());
        }
        if RESERVED.iter().any(|word| text.eq_ignore_ascii_case(word)) {
            let words = RESERVED.join(", ");
            return Err(format!("must not be one of the reserved ids: {words}").into());
        }
        Ok(Self(text.to_owned()))
    }

    /// Generates a random handle.
    pub fn generate(entropy: &dyn Entropy) -> Self {
        Self(new_organization_handle(entropy))
    }

    /// Returns the handle as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invalid_handle_is_an_error() {
        let long = "a".repeat(65);
        let invalid = [
            "",
            " ",
            "a b",
            "a/b",
            "a.b",
            "..",
            "a\nb",
            "a'b",
            "a\"b",
            "a\0b",
            // A Cyrillic letter, a full-width letter, and a letter with an accent.
            "\u{430}cme",
            "\u{ff41}cme",
            "\u{e9}",
            long.as_str(),
        ];
        for text in invalid {
            assert!(OrganizationHandle::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_reserved_handle_is_an_error_in_any_case() {
        for text in ["admin", "ADMIN", "Well-Known"] {
            let Err(ValidationError(message)) = OrganizationHandle::parse(text) else {
                panic!("{text} was accepted")
            };
            assert!(message.contains("reserved"));
        }
    }

    #[test]
    fn a_valid_handle_is_accepted() {
        for text in ["a", "acme", "ACME-1_x", "-", &"a".repeat(64), "admins"] {
            assert!(OrganizationHandle::parse(text).is_ok(), "{text:?}");
        }
    }
}
