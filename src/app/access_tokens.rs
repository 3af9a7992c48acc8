//! Access tokens: JWTs that name a session and are worth no more than it.
//!
//! Each key to check them with has its algorithm from the configuration; a token only says which of
//! the keys it means, never an algorithm. A token proves only that we issued it and that it is not
//! over; whether its session still is good is asked of the database at each use.

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

/// How long a person's access token lives (contract §3).
pub const ACCOUNT_TOKEN_LIFETIME: TimeDelta = TimeDelta::hours(24);

/// For whom the tokens are.
const AUDIENCE: &str = "tenantry";
/// What they are.
const TOKEN_TYPE: &str = "JWT";

/// What a token's header says, and all that it may say: another parameter, such as `crit`, `b64` or
/// `zip`, could change what the rest means (RFC 7515 §4.1.11).
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenHeader {
    kid: String,
    typ: String,
    /// Each key has its own algorithm, which decoding compares.
    #[serde(rename = "alg")]
    _alg: IgnoredAny,
}

/// What a token says (RFC 7519). A claim of another JSON type is a refusal.
#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: String,
    sid: String,
    iat: i64,
    exp: i64,
    /// Before when it is not good; ours do not say.
    #[serde(default, skip_serializing)]
    nbf: i64,
}

/// Whose session a token names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenSession {
    /// The one that a key was exchanged for.
    Key(SessionId),
    /// A person's.
    Account(SessionId),
}

/// A key to check tokens with.
struct VerificationKey {
    kid: String,
    key: DecodingKey,
    validation: Validation,
}

/// Signs with the newest key, reads with every one.
pub struct AccessTokens {
    issuer: String,
    key_token_lifetime: TimeDelta,
    signing_key: (Header, EncodingKey),
    verification_keys: Vec<VerificationKey>,
    jwks: JwkSet,
}

impl AccessTokens {
    /// From the configuration: the newest private key signs, or else the newest secret.
    ///
    /// # Errors
    /// Internal where there is neither, or a private key can not be used, which the configuration
    /// excludes.
    pub fn new(settings: &TokenSettings, public_url: &url::Url) -> Result<Self> {
        let issuer = public_url.as_str().trim_end_matches('/').to_owned();
        let mut tokens = Vec::new();
        let mut verifying = Vec::new();
        let mut published = Vec::new();
        for private in &settings.private_keys {
            let key = EncodingKey::from_ed_der(&private.bytes);
            let mut jwk =
                Jwk::from_encoding_key(&key, Algorithm::EdDSA).map_err(Error::internal)?;
            jwk.common.key_id = Some(private.id.clone());
            jwk.common.public_key_use = Some(PublicKeyUse::Signature);
            let check = DecodingKey::from_jwk(&jwk).map_err(Error::internal)?;
            verifying.push(verification_key(&private.id, check, Algorithm::EdDSA, &issuer));
            tokens.push((header(&private.id, Algorithm::EdDSA), key));
            published.push(jwk);
        }
        for secret in &settings.secrets {
            let check = DecodingKey::from_secret(&secret.bytes);
            verifying.push(verification_key(&secret.id, check, Algorithm::HS256, &issuer));
            let key = EncodingKey::from_secret(&secret.bytes);
            tokens.push((header(&secret.id, Algorithm::HS256), key));
        }
        let signing = tokens.into_iter().next();
        let signing = signing.ok_or_else(|| Error::internal("nothing to sign tokens with"))?;
        let key_token_lifetime = settings.key_token_lifetime;
        let published = JwkSet { keys: published };
        Ok(Self {
            issuer,
            key_token_lifetime,
            signing_key: signing,
            verification_keys: verifying,
            jwks: published,
        })
    }

    /// How long a token for a key's session lives.
    #[must_use]
    pub const fn key_token_lifetime(&self) -> TimeDelta {
        self.key_token_lifetime
    }

    /// A token for the session that a key of `user` was exchanged for.
    ///
    /// # Errors
    /// Internal where signing fails.
    pub fn issue_for_key_session(
        &self,
        session: SessionId,
        user: &str,
        now: DateTime<Utc>,
    ) -> Result<Secret> {
        self.issue(session, user.to_owned(), (now, now + self.key_token_lifetime))
    }

    /// A token for a person's session.
    ///
    /// # Errors
    /// Internal where signing fails.
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

    /// The session of a token that we issued and that is not over.
    #[must_use]
    pub fn verify(&self, token: &str, now: DateTime<Utc>) -> Option<TokenSession> {
        let TokenHeader { kid, .. } = read_header(token).filter(|it| it.typ == TOKEN_TYPE)?;
        let VerificationKey { key, validation, .. } =
            self.verification_keys.iter().find(|it| it.kid == kid)?;
        let claims = decode::<Claims>(token, key, validation).ok()?.claims;
        let is_current = claims.nbf <= now.timestamp() && now.timestamp() < claims.exp;
        let session = SessionId::parse(&claims.sid).filter(|_| is_current)?;
        let is_account = AccountId::parse(&claims.sub).is_some();
        let of_whom = if is_account { TokenSession::Account } else { TokenSession::Key };
        Some(of_whom(session))
    }

    /// What others check our tokens with (RFC 7517): the public keys, never a secret.
    #[must_use]
    pub const fn jwks(&self) -> &JwkSet {
        &self.jwks
    }
}

/// Whether a text has the form of a token, good or not.
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
    // Judged by the injected clock, without leeway.
    validation.validate_exp = false;
    VerificationKey { kid: kid.to_owned(), key, validation }
}
