//! The client that an organization registered at its identity provider.

use crate::model::ValidationError;
use crate::model::secret::Secret;

/// The maximum length of a client's id.
pub const MAX_CLIENT_ID_LENGTH: usize = 256;
/// The maximum length of a client's secret.
pub const MAX_CLIENT_SECRET_LENGTH: usize = 1024;

/// The id of a client at an identity provider (RFC 6749 §2.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderClientId(String);

impl ProviderClientId {
    /// Parses an id of 1 to [`MAX_CLIENT_ID_LENGTH`] printable ASCII characters.
    ///
    /// # Errors
    /// The text is no such id. The error states what is required.
    pub fn parse(text: &str) -> Result<Self, ValidationError> {
        if is_printable(text, MAX_CLIENT_ID_LENGTH) {
            return Ok(Self(text.to_owned()));
        }
        Err(format!("must be 1 to {MAX_CLIENT_ID_LENGTH} printable ASCII characters").into())
    }

    /// Returns it as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Parses a client's secret of 1 to [`MAX_CLIENT_SECRET_LENGTH`] printable ASCII characters
/// (RFC 6749 §2.3.1).
///
/// # Errors
/// The text is no such secret. The error states what is required.
pub fn parse_client_secret(text: String) -> Result<Secret, ValidationError> {
    let secret = Secret::new(text);
    if is_printable(secret.expose(), MAX_CLIENT_SECRET_LENGTH) {
        return Ok(secret);
    }
    Err(format!("must be 1 to {MAX_CLIENT_SECRET_LENGTH} printable ASCII characters").into())
}

/// Returns whether the text has 1 to `max` printable ASCII characters, and no space at its ends,
/// which would have been copied by mistake.
fn is_printable(text: &str, max: usize) -> bool {
    (1..=max).contains(&text.len())
        && text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
        && text.trim() == text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_secrets_are_printable_ascii_characters_without_spaces_at_their_ends() {
        for text in ["a", "https://sp.example.com/a b", "~!\"%&+=", &"a".repeat(256)] {
            assert!(ProviderClientId::parse(text).is_ok(), "{text:?}");
            assert!(parse_client_secret(text.to_owned()).is_ok(), "{text:?}");
        }
        for text in ["", " a", "a ", "a\n", "\u{0}", "é", "a\tb", &"a".repeat(1025)] {
            assert!(ProviderClientId::parse(text).is_err(), "{text:?}");
            assert!(parse_client_secret(text.to_owned()).is_err(), "{text:?}");
        }
    }
}
