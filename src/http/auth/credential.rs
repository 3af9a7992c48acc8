//! The credential that a request presents in a header, as text.

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::app::access_tokens::looks_like_jwt;
use crate::error::{Error, ErrorKind, Result};
use crate::model::key_format::KeyFormat;

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// The message for a credential that is presented in another way.
pub const SEND_KEY_MESSAGE: &str = "Send the key as `Authorization: Bearer …` or `X-Api-Key`";

/// A presented credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PresentedCredential<'a> {
    /// In `X-Api-Key`: a key.
    Key(&'a str),
    /// In `Authorization: Bearer`: a key or an access token.
    Bearer(&'a str),
    /// Text that cannot be a credential.
    Unreadable,
}

impl<'a> PresentedCredential<'a> {
    /// Returns the credential in a request's headers.
    ///
    /// # Errors
    /// Malformed if a header is repeated, or if the headers contain two different credentials.
    pub fn from_headers(headers: &'a HeaderMap) -> Result<Option<Self>> {
        let key = single_header(headers, &API_KEY)?.map(|value| Self::parse(value, Self::Key));
        let bearer = single_header(headers, &header::AUTHORIZATION)?.map(Self::bearer);
        match (key, bearer) {
            (Some(Self::Key(key)), Some(Self::Bearer(bearer))) if key == bearer => {
                Ok(Some(Self::Key(key)))
            }
            (Some(_), Some(_)) => Err(two_credentials()),
            (one, other) => Ok(one.or(other)),
        }
    }

    /// Returns the error with a more specific message if the credential's form shows the mistake.
    #[must_use]
    pub fn explain(self, error: Error) -> Error {
        let (ErrorKind::Unauthenticated(failure), Self::Key(text) | Self::Bearer(text)) =
            (error.kind(), self)
        else {
            return error;
        };
        let message = if text.is_empty() {
            "The credential header is empty"
        } else if KeyFormat::refresh_token().matches(text) {
            "A refresh token is used at POST /auth/refresh; send an access token here"
        } else if looks_like_jwt(text) && matches!(self, Self::Key(_)) {
            "Send an access token as `Authorization: Bearer …`, not in `X-Api-Key`"
        } else {
            return error;
        };
        Error::unauthenticated(*failure, message)
    }

    fn parse(value: &'a HeaderValue, as_credential: fn(&'a str) -> Self) -> Self {
        value.to_str().map_or(Self::Unreadable, |text| as_credential(text.trim()))
    }

    /// Parses `Authorization` (RFC 6750 §2.1). The scheme's case does not matter (RFC 9110 §11.1).
    fn bearer(value: &'a HeaderValue) -> Self {
        let split = value.to_str().ok().and_then(|text| text.split_once(' '));
        match split {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => {
                Self::Bearer(token.trim())
            }
            _ => Self::Unreadable,
        }
    }
}

fn single_header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a HeaderValue>> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() { Err(two_credentials()) } else { Ok(first) }
}

fn two_credentials() -> Error {
    Error::malformed("The request has two credentials; send one")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(list: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), value.parse().expect("a header"))
        };
        list.iter().map(pair).collect()
    }

    #[test]
    fn only_one_credential_is_accepted_which_both_headers_may_contain() {
        let differing = headers(&[("x-api-key", "a"), ("authorization", "Bearer b")]);
        assert!(PresentedCredential::from_headers(&differing).is_err());
        let twice = headers(&[("authorization", "Bearer a"), ("authorization", "Bearer a")]);
        assert!(PresentedCredential::from_headers(&twice).is_err());
        let same = headers(&[("x-api-key", "a"), ("authorization", "bearer a")]);
        assert_eq!(
            PresentedCredential::from_headers(&same).expect("one"),
            Some(PresentedCredential::Key("a"))
        );
    }

    #[test]
    fn a_credential_of_another_scheme_is_unreadable() {
        let basic = headers(&[("authorization", "Basic YTpi")]);
        assert_eq!(
            PresentedCredential::from_headers(&basic).expect("one"),
            Some(PresentedCredential::Unreadable)
        );
        let both = headers(&[("authorization", "Basic YTpi"), ("x-api-key", "a")]);
        assert!(PresentedCredential::from_headers(&both).is_err());
    }
}
