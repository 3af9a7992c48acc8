//! Signs ID tokens (`OpenID` Connect Core §2): they tell a client who signed in, when and how. They
//! are no credential: nothing of this server accepts one.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use chrono::{DateTime, TimeDelta, Utc};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::config::oauth::OauthSettings;
use crate::config::openid_keys::OpenidKey;
use crate::error::{Error, Result};
use crate::model::ids::{AccountId, SessionId};
use crate::model::oauth::IdTokenAlgorithm;
use crate::model::oauth::tokens::SignIn;
use crate::model::secret::Secret;

/// For how long a token is valid.
const LIFETIME: TimeDelta = TimeDelta::minutes(10);

/// What a token states.
pub struct IdTokenContent<'a> {
    /// The public id of the client that it is for.
    pub client_id: &'a str,
    /// How the client wants it to be signed.
    pub algorithm: IdTokenAlgorithm,
    /// The account that signed in.
    pub account: AccountId,
    /// The public id of the organization of the grant.
    pub organization: Option<&'a str>,
    /// The nonce of the authorization request; `None` in the response to a refresh.
    pub nonce: Option<&'a str>,
    /// The sign-in; `None` for a refresh token of an earlier version, which does not know it.
    pub sign_in: Option<SignIn>,
    /// The access token that is issued beside it.
    pub access_token: &'a Secret,
    /// When it is issued.
    pub issued_at: DateTime<Utc>,
}

/// A token's claims.
#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    sub: String,
    aud: &'a str,
    exp: i64,
    iat: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    auth_time: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nonce: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sid: Option<String>,
    at_hash: String,
    /// How the person signed in (RFC 8176).
    amr: [&'static str; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    organization_id: Option<&'a str>,
}

/// Signs ID tokens, with the newest key of each algorithm.
pub struct IdTokens {
    issuer: String,
    keys: Vec<SigningKey>,
    published: Vec<Jwk>,
}

/// A key that signs.
struct SigningKey {
    algorithm: IdTokenAlgorithm,
    header: Header,
    private: EncodingKey,
}

impl SigningKey {
    fn new(key: &OpenidKey) -> Self {
        let algorithm = match key.algorithm {
            IdTokenAlgorithm::Rs256 => Algorithm::RS256,
            IdTokenAlgorithm::Es256 => Algorithm::ES256,
        };
        let header = Header { kid: Some(key.id.clone()), ..Header::new(algorithm) };
        Self { algorithm: key.algorithm, header, private: key.private.clone() }
    }
}

impl IdTokens {
    /// Creates the signer. While OAuth is off, it has no keys.
    #[must_use]
    pub fn new(settings: &OauthSettings) -> Self {
        let keys = settings.openid_keys.iter().map(SigningKey::new).collect();
        let published = settings.openid_keys.iter().map(|key| key.public.clone()).collect();
        Self { issuer: settings.issuer.clone(), keys, published }
    }

    /// Returns the public keys that verify ID tokens: the newest ones, which sign them, and earlier
    /// ones.
    #[must_use]
    pub fn public_keys(&self) -> &[Jwk] {
        &self.published
    }

    fn newest(&self, algorithm: IdTokenAlgorithm) -> Option<&SigningKey> {
        self.keys.iter().find(|key| key.algorithm == algorithm)
    }

    /// Returns how tokens are signed for a client that wants this algorithm: with RS256 if there is
    /// no key for it.
    #[must_use]
    pub fn algorithm_for(&self, wanted: IdTokenAlgorithm) -> IdTokenAlgorithm {
        self.newest(wanted).map_or(IdTokenAlgorithm::Rs256, |key| key.algorithm)
    }

    /// Signs a token as the client wants it, or with RS256 if there is no key for that any more.
    ///
    /// # Errors
    /// Internal without a key, or if signing fails.
    pub fn sign(&self, content: &IdTokenContent<'_>) -> Result<Secret> {
        let no_key = || Error::internal("no key is configured to sign ID tokens");
        let key = self.newest(self.algorithm_for(content.algorithm)).ok_or_else(no_key)?;
        let sid = |it: SignIn| SessionId::from_uuid(it.session).to_string();
        let claims = Claims {
            iss: &self.issuer,
            sub: content.account.to_string(),
            aud: content.client_id,
            exp: (content.issued_at + LIFETIME).timestamp(),
            iat: content.issued_at.timestamp(),
            auth_time: content.sign_in.map(|it| it.at.timestamp()),
            nonce: content.nonce,
            sid: content.sign_in.map(sid),
            at_hash: access_token_hash(content.access_token),
            amr: ["pwd"],
            organization_id: content.organization,
        };
        encode(&key.header, &claims, &key.private).map(Secret::new).map_err(Error::internal)
    }
}

/// Returns `at_hash`: the left half of the token's SHA-256, which is the hash of both algorithms,
/// in base64url (`OpenID` Connect Core §3.1.3.6).
fn access_token_hash(token: &Secret) -> String {
    let digest = Sha256::digest(token.expose().as_bytes());
    BASE64_URL_SAFE_NO_PAD.encode(&digest[..digest.len() / 2])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_of_an_access_token_is_that_of_the_specification() {
        // OpenID Connect Core, appendix A.3.
        let token = Secret::new("jHkWEdUXMU1BwAsC4vtUsZwnNvTIxEl0z9K3vx5KF0Y".to_owned());
        assert_eq!(access_token_hash(&token), "77QmUPtjPfzWtF2AnpK9RQ");
    }
}
