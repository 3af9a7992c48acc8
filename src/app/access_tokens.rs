//! Access tokens: JWTs that name a session and are worth no more than it.
//!
//! The algorithm is ours, never the token's. A token proves only that we issued it and that it
//! is not over; whether its session and key still are is asked of the database at each use.

use chrono::{DateTime, TimeDelta, Utc};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use serde::{Deserialize, Serialize};

use crate::config::tokens::TokenSettings;
use crate::error::{Error, Result};
use crate::model::ids::SessionId;
use crate::model::secret::Secret;

/// How long an access token from a key exchange lives (contract §2).
pub const LIFETIME: TimeDelta = TimeDelta::minutes(15);

/// For whom the tokens are.
const AUDIENCE: &str = "tenantry";

/// What a token says (RFC 7519). A claim of another JSON type is a refusal.
#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: String,
    sid: String,
    iat: i64,
    exp: i64,
}

/// Signs with the newest secret, reads with every one.
pub struct AccessTokens {
    issuer: String,
    signing: (Header, EncodingKey),
    verifying: Vec<(String, DecodingKey)>,
    validation: Validation,
}

impl AccessTokens {
    /// From the configuration, which never leaves the list of secrets empty.
    #[must_use]
    pub fn new(settings: &TokenSettings, public_url: &url::Url) -> Self {
        let issuer = public_url.as_str().trim_end_matches('/').to_owned();
        let newest = &settings.secrets[0];
        let header = Header { kid: Some(newest.id.clone()), ..Header::new(Algorithm::HS256) };
        let verifying = settings.secrets.iter();
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_issuer(&[&issuer]);
        validation.set_audience(&[AUDIENCE]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        // Judged below by the injected clock, without leeway.
        validation.validate_exp = false;
        Self {
            signing: (header, EncodingKey::from_secret(&newest.bytes)),
            verifying: verifying
                .map(|secret| (secret.id.clone(), DecodingKey::from_secret(&secret.bytes)))
                .collect(),
            validation,
            issuer,
        }
    }

    /// A token for `session`, good for [`LIFETIME`].
    ///
    /// # Errors
    /// Internal where signing fails.
    pub fn issue(&self, session: SessionId, user: &str, now: DateTime<Utc>) -> Result<Secret> {
        let claims = Claims {
            iss: self.issuer.clone(),
            aud: AUDIENCE.to_owned(),
            sub: user.to_owned(),
            sid: session.to_string(),
            iat: now.timestamp(),
            exp: (now + LIFETIME).timestamp(),
        };
        let (header, key) = &self.signing;
        encode(header, &claims, key).map(Secret::new).map_err(Error::internal)
    }

    /// The session of a token that we issued and that is not over.
    #[must_use]
    pub fn session(&self, token: &str, now: DateTime<Utc>) -> Option<SessionId> {
        let header = token.contains('.').then(|| jsonwebtoken::decode_header(token).ok())??;
        let kid = header.kid?;
        let (_, key) = self.verifying.iter().find(|(id, _)| *id == kid)?;
        let claims = decode::<Claims>(token, key, &self.validation).ok()?.claims;
        (claims.exp > now.timestamp()).then(|| SessionId::parse(&claims.sid)).flatten()
    }
}
