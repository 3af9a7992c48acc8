//! The public id of an organization.

use crate::entropy::Entropy;
use crate::model::ValidationError;
use crate::model::ids::new_organization_handle;

/// Words that would be mistaken for something else in a path or a host name (contract §1).
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

/// An organization's id: `^[A-Za-z0-9_-]{1,64}$` and no reserved word. Two that differ in case
/// only name the same organization; the database sees to that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrgHandle(String);

impl OrgHandle {
    /// Reads an id that a caller chose.
    ///
    /// # Errors
    /// A text that breaks the rule, in words that name the rule.
    pub fn parse(text: &str) -> Result<Self, ValidationError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if !(1..=64).contains(&text.len()) || !text.bytes().all(allowed) {
            return Err("must be 1 to 64 letters, digits, hyphens or underscores".into());
        }
        if RESERVED.iter().any(|word| text.eq_ignore_ascii_case(word)) {
            let words = RESERVED.join(", ");
            return Err(format!("is reserved; these can not be chosen: {words}").into());
        }
        Ok(Self(text.to_owned()))
    }

    /// An id for an organization whose founder leaves the choice to us.
    pub fn generate(entropy: &dyn Entropy) -> Self {
        Self(new_organization_handle(entropy))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_breaks_the_rule_is_refused() {
        let long = "a".repeat(65);
        let refused = [
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
            "аcme",
            "ａcme",
            "é",
            long.as_str(),
        ];
        for text in refused {
            assert!(OrgHandle::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_reserved_word_is_refused_in_any_case() {
        for text in ["admin", "ADMIN", "Well-Known"] {
            let Err(ValidationError(message)) = OrgHandle::parse(text) else {
                panic!("{text} was taken")
            };
            assert!(message.contains("reserved"));
        }
    }

    #[test]
    fn what_keeps_the_rule_is_taken() {
        for text in ["a", "acme", "ACME-1_x", "-", &"a".repeat(64), "admins"] {
            assert!(OrgHandle::parse(text).is_ok(), "{text:?}");
        }
    }
}
