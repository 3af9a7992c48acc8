//! Access tokens: JWTs that name a session and are valid only as long as the session is.
//!
//! The configuration assigns an algorithm to each verification key. A token selects the key by its
//! id; the algorithm in its header does not select anything. A token proves only that this
//! deployment issued it and that it has not expired; whether its session is still valid is looked
//! up in the database at each use.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use chrono::{DateTime, TimeDelta, Utc};
use jsonwebtoken::jwk::{Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use crate::config::tokens::TokenSettings;
use crate::error::{Error, Result};
use crate::model::ids::{AccountId, SessionId};
use crate::model::secret::Secret;
use crate::model::short_lived_token::SESSION_TOKEN_AUDIENCE as AUDIENCE;

/// The lifetime of an account's access token.
pub const ACCOUNT_TOKEN_LIFETIME: TimeDelta = TimeDelta::hours(24);

/// The `typ` header parameter of every token.
const TOKEN_TYPE: &str = "JWT";

/// A token's header with all allowed parameters. Any other, such as `crit`, `b64` or `zip`, could
/// change the meaning of the token, so it is rejected (RFC 7515 §4.1.11).
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenHeader {
    kid: String,
    typ: String,
    /// Allowed here, and compared with the key's algorithm when the token is decoded.
    #[serde(rename = "alg")]
    _alg: IgnoredAny,
}

/// A token's claims (RFC 7519). A claim of another JSON type makes the token invalid.
#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: String,
    sid: String,
    iat: i64,
    exp: i64,
    /// The time before which the token is not valid. Issued tokens do not contain it.
    #[serde(default, skip_serializing)]
    nbf: i64,
}

/// The session that a token names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenSession {
    /// A session that an API key was exchanged for.
    Key(SessionId),
    /// A session of an account.
    Account(SessionId),
}

/// A key that tokens are verified with.
struct VerificationKey {
    kid: String,
    key: DecodingKey,
    validation: Validation,
}

/// Signs access tokens with the newest key and verifies them with every configured key.
pub struct AccessTokens {
    issuer: String,
    key_token_lifetime: TimeDelta,
    signing_key: (Header, EncodingKey),
    verification_keys: Vec<VerificationKey>,
    jwks: JwkSet,
}

impl AccessTokens {
    /// Creates the keys from the configuration. The newest private key signs; without private keys,
    /// the newest secret does.
    ///
    /// # Errors
    /// Internal if there is neither, or a private key cannot be used. The configuration excludes
    /// both.
    pub fn new(settings: &TokenSettings, public_url: &url::Url) -> Result<Self> {
        let issuer = public_url.as_str().trim_end_matches('/').to_owned();
        let mut signing_keys = Vec::new();
        let mut verification_keys = Vec::new();
        let mut published = Vec::new();
        for private in &settings.private_keys {
            let key = EncodingKey::from_ed_der(&private.bytes);
            let mut jwk =
                Jwk::from_encoding_key(&key, Algorithm::EdDSA).map_err(Error::internal)?;
            jwk.common.key_id = Some(private.id.clone());
            jwk.common.public_key_use = Some(PublicKeyUse::Signature);
            let public = DecodingKey::from_jwk(&jwk).map_err(Error::internal)?;
            verification_keys.push(verification_key(
                &private.id,
                public,
                Algorithm::EdDSA,
                &issuer,
            ));
            signing_keys.push((header(&private.id, Algorithm::EdDSA), key));
            published.push(jwk);
        }
        for secret in &settings.secrets {
            let key = DecodingKey::from_secret(&secret.bytes);
            verification_keys.push(verification_key(&secret.id, key, Algorithm::HS256, &issuer));
            let key = EncodingKey::from_secret(&secret.bytes);
            signing_keys.push((header(&secret.id, Algorithm::HS256), key));
        }
        let signing_key = signing_keys.into_iter().next();
        Ok(Self {
            issuer,
            key_token_lifetime: settings.key_token_lifetime,
            signing_key: signing_key
                .ok_or_else(|| Error::internal("no key to sign tokens with"))?,
            verification_keys,
            jwks: JwkSet { keys: published },
        })
    }

    /// Returns the `iss` claim of every token: the public URL without a slash at its end.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Returns the lifetime of a token for a key's session.
    #[must_use]
    pub const fn key_token_lifetime(&self) -> TimeDelta {
        self.key_token_lifetime
    }

    /// Issues a token for the session that a key of `user` was exchanged for.
    ///
    /// # Errors
    /// Internal if signing fails.
    pub fn issue_for_key_session(
        &self,
        session: SessionId,
        user: &str,
        now: DateTime<Utc>,
    ) -> Result<Secret> {
        self.issue(session, user.to_owned(), (now, now + self.key_token_lifetime))
    }

    /// Issues a token for an account's session.
    ///
    /// # Errors
    /// Internal if signing fails.
    pub fn issue_for_account(
        &self,
        session: SessionId,
        account: AccountId,
        now: DateTime<Utc>,
    ) -> Result<Secret> {
        self.issue(session, account.to_string(), (now, now + ACCOUNT_TOKEN_LIFETIME))
    }

    fn issue(
        &self,
        session: SessionId,
        sub: String,
        (from, until): (DateTime<Utc>, DateTime<Utc>),
    ) -> Result<Secret> {
        let claims = Claims {
            iss: self.issuer.clone(),
            aud: AUDIENCE.to_owned(),
            sub,
            sid: session.to_string(),
            iat: from.timestamp(),
            exp: until.timestamp(),
            nbf: 0,
        };
        let (header, key) = &self.signing_key;
        encode(header, &claims, key).map(Secret::new).map_err(Error::internal)
    }

    /// Returns the session of a token that this deployment issued and that has not expired.
    #[must_use]
    pub fn verify(&self, token: &str, now: DateTime<Utc>) -> Option<TokenSession> {
        let TokenHeader { kid, .. } = read_header(token).filter(|it| it.typ == TOKEN_TYPE)?;
        let VerificationKey { key, validation, .. } =
            self.verification_keys.iter().find(|it| it.kid == kid)?;
        let claims = decode::<Claims>(token, key, validation).ok()?.claims;
        let is_current = claims.nbf <= now.timestamp() && now.timestamp() < claims.exp;
        let session = SessionId::parse(&claims.sid).filter(|_| is_current)?;
        let is_account = AccountId::parse(&claims.sub).is_some();
        Some(if is_account { TokenSession::Account(session) } else { TokenSession::Key(session) })
    }

    /// Returns the public keys that other services verify tokens with (RFC 7517), and no secret.
    #[must_use]
    pub const fn jwks(&self) -> &JwkSet {
        &self.jwks
    }
}

/// Returns whether a text has the form of a token, valid or not.
#[must_use]
pub fn looks_like_jwt(text: &str) -> bool {
    text.matches('.').count() >= 2
}

fn read_header(token: &str) -> Option<TokenHeader> {
    let (header, _) = token.split_once('.')?;
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(header).ok()?).ok()
}

fn header(kid: &str, algorithm: Algorithm) -> Header {
    Header { kid: Some(kid.to_owned()), ..Header::new(algorithm) }
}

fn verification_key(
    kid: &str,
    key: DecodingKey,
    algorithm: Algorithm,
    issuer: &str,
) -> VerificationKey {
    let mut validation = Validation::new(algorithm);
    validation.set_issuer(&[issuer]);
    validation.set_audience(&[AUDIENCE]);
    validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
    // Expiry is checked in `verify`, with the injected clock and without leeway.
    validation.validate_exp = false;
    VerificationKey { kid: kid.to_owned(), key, validation }
}
