//! Short-lived tokens: JWTs (RFC 9068) about a customer's credential, which a service verifies with
//! the JWKS, without a request.

use chrono::TimeDelta;

use crate::model::ValidationError;
use crate::model::scope::Scope;

/// The `aud` claim of the access tokens of sessions and keys, which this server itself accepts.
pub const SESSION_TOKEN_AUDIENCE: &str = "tenantry";

/// The default lifetime of a short-lived token.
pub const DEFAULT_LIFETIME: TimeDelta = TimeDelta::seconds(60);
/// The shortest lifetime that can be requested, in seconds.
pub const MIN_SECONDS: i32 = 10;
/// The longest lifetime that can be requested, in seconds.
pub const MAX_SECONDS: i32 = 300;

/// The maximum length of an audience, in characters.
const MAX_AUDIENCE_CHARS: usize = 256;

/// The service that a token is for. Another service must reject it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audience(String);

impl Audience {
    /// Parses an audience.
    ///
    /// # Errors
    /// The text is empty or longer than 256 characters, has control characters, or is the audience
    /// of the access tokens of sessions, for which a short-lived token must not be mistaken.
    pub fn parse(text: &str) -> Result<Self, ValidationError> {
        if text.is_empty() || text.chars().count() > MAX_AUDIENCE_CHARS {
            return Err(format!("must be 1 to {MAX_AUDIENCE_CHARS} characters long").into());
        }
        if text.contains(char::is_control) {
            return Err("must not contain control characters".into());
        }
        if text == SESSION_TOKEN_AUDIENCE {
            let message =
                format!("must not be {text}, the audience of the access tokens of sessions");
            return Err(message.into());
        }
        Ok(Self(text.to_owned()))
    }

    /// Returns the audience as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The scopes of a token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum TokenScopes {
    /// All that the credential may use.
    #[default]
    Own,
    /// Only these. The caller has put them into the check, so that the credential is known to have
    /// them.
    Only(Vec<Scope>),
    /// Not stated: the token has no `scope` claim, and proves no scope.
    Unstated,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_audience_has_1_to_256_characters_and_is_not_that_of_access_tokens() {
        for text in ["a", "https://api.example.com/docs", &"é".repeat(256), "Tenantry"] {
            assert_eq!(Audience::parse(text).expect("an audience").as_str(), text);
        }
        for text in ["", &"a".repeat(257), "a\u{0}b", "a\nb", "tenantry"] {
            assert!(Audience::parse(text).is_err(), "{text:?}");
        }
    }
}
