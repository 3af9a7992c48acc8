//! Signs short-lived tokens: JWTs (`typ: at+jwt`, RFC 9068) about a customer's credential, for a
//! service that verifies them with the JWKS.
//!
//! They are not Tenantry's access tokens: their `typ` and `aud` differ, and they name no session.

use chrono::{DateTime, Utc};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde::Serialize;

use crate::config::tokens::TokenSettings;
use crate::error::{Error, Result};
use crate::model::secret::Secret;

/// The `typ` header parameter of every short-lived token.
const TOKEN_TYPE: &str = "at+jwt";

/// What a token states.
pub struct TokenContent<'a> {
    /// The service that it is for.
    pub audience: &'a str,
    /// The public id of the organization.
    pub organization: &'a str,
    /// The plan of the organization.
    pub plan: &'a str,
    /// The id of the key or personal access token.
    pub key: String,
    /// The account of a personal access token.
    pub account: Option<String>,
    /// The scopes, separated by spaces; `None` states none.
    pub scope: Option<String>,
    /// A text that no other token has.
    pub id: String,
    /// From when until when it is valid, in whole seconds.
    pub validity: (DateTime<Utc>, DateTime<Utc>),
}

/// A token's claims. `client_id` is required by RFC 9068.
#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    aud: &'a str,
    sub: &'a str,
    client_id: &'a str,
    key_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    account_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<&'a str>,
    plan: &'a str,
    iat: i64,
    exp: i64,
    jti: &'a str,
}

/// Signs tokens with the newest private key.
pub struct ShortLivedTokens {
    issuer: String,
    key: Option<(Header, EncodingKey)>,
}

impl ShortLivedTokens {
    /// Creates the signer. Without a private key it signs nothing: to verify a token signed with
    /// one of `JWT_SECRETS`, a service would need that secret.
    #[must_use]
    pub fn new(settings: &TokenSettings, issuer: &str) -> Self {
        let key = settings.private_keys.first().map(|private| {
            let mut header = Header::new(Algorithm::EdDSA);
            header.kid = Some(private.id.clone());
            header.typ = Some(TOKEN_TYPE.to_owned());
            (header, EncodingKey::from_ed_der(&private.bytes))
        });
        Self { issuer: issuer.to_owned(), key }
    }

    /// Returns whether there is a private key.
    #[must_use]
    pub const fn can_sign(&self) -> bool {
        self.key.is_some()
    }

    /// Signs a token.
    ///
    /// # Errors
    /// Internal without a private key, or if signing fails.
    pub fn sign(&self, content: &TokenContent<'_>) -> Result<Secret> {
        let no_key = || Error::internal("no private key is configured to sign tokens");
        let (header, key) = self.key.as_ref().ok_or_else(no_key)?;
        let claims = Claims {
            iss: &self.issuer,
            aud: content.audience,
            sub: content.organization,
            client_id: &content.key,
            key_id: &content.key,
            account_id: content.account.as_deref(),
            scope: content.scope.as_deref(),
            plan: content.plan,
            iat: content.validity.0.timestamp(),
            exp: content.validity.1.timestamp(),
            jti: &content.id,
        };
        encode(header, &claims, key).map(Secret::new).map_err(Error::internal)
    }
}
