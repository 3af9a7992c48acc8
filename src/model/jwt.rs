//! Signed JSON Web Tokens of others (RFC 7519): assertions of OAuth clients, and ID tokens of
//! identity providers.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use jsonwebtoken::Algorithm;
use jsonwebtoken::crypto::verify;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use sha2::{Digest, Sha256};

use crate::model::public_key_set::PublicKeySet;
use crate::model::secret::Secret;

/// A token whose signature has not been verified.
pub struct UnverifiedJwt<C> {
    text: Secret,
    algorithm: Algorithm,
    /// The id of the key that it claims to be signed with.
    pub key_id: Option<String>,
    /// What it claims.
    pub claims: C,
}

/// The header parameters that are read. The last three change what the signature means and are not
/// supported, so that each makes the token invalid (RFC 7515 §4.1.11).
#[derive(Deserialize)]
struct JwtHeader {
    alg: String,
    kid: Option<String>,
    crit: Option<IgnoredAny>,
    b64: Option<IgnoredAny>,
    zip: Option<IgnoredAny>,
}

/// `aud` (RFC 7519 §4.1.3).
#[derive(Deserialize)]
#[serde(untagged)]
pub enum AudienceClaim {
    /// One audience.
    One(String),
    /// A list of audiences.
    Several(Vec<String>),
}

impl AudienceClaim {
    /// Returns whether it contains one of these.
    #[must_use]
    pub fn contains_any(&self, accepted: &[String]) -> bool {
        self.as_slice().iter().any(|text| accepted.contains(text))
    }

    /// Returns the audiences.
    #[must_use]
    pub fn as_slice(&self) -> &[String] {
        match self {
            Self::One(text) => std::slice::from_ref(text),
            Self::Several(texts) => texts,
        }
    }
}

impl<C: DeserializeOwned> UnverifiedJwt<C> {
    /// Reads a token; `None` if it cannot be valid: it has another form, is longer than `max_bytes`
    /// bytes, or has an algorithm that is not supported.
    #[must_use]
    pub fn parse(text: Secret, max_bytes: usize) -> Option<Self> {
        if text.expose().len() > max_bytes {
            return None;
        }
        let (signed, _) = text.expose().rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let header: JwtHeader = read_part(header)?;
        let claims = read_part(claims)?;
        if header.crit.or(header.b64).or(header.zip).is_some() {
            return None;
        }
        let algorithm = match header.alg.as_str() {
            "RS256" => Algorithm::RS256,
            "ES256" => Algorithm::ES256,
            // The second name is that of RFC 9864.
            "EdDSA" | "Ed25519" => Algorithm::EdDSA,
            _ => return None,
        };
        Some(Self { text, algorithm, key_id: header.kid, claims })
    }
}

impl<C> UnverifiedJwt<C> {
    /// Returns the algorithm that it claims to be signed with.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Returns whether one of these keys, which is for the algorithm, signed it.
    #[must_use]
    pub fn is_signed_by(&self, keys: &PublicKeySet) -> bool {
        let Some((signed, signature)) = self.text.expose().rsplit_once('.') else { return false };
        let mut candidates = keys.candidates(self.algorithm, self.key_id.as_deref());
        candidates
            .any(|key| verify(signature, signed.as_bytes(), &key, self.algorithm).unwrap_or(false))
    }
}

fn read_part<T: DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(text).ok()?).ok()
}

/// Returns the time of a `NumericDate` (RFC 7519 §2), which may have a fraction; `None` if it is
/// thousands of years away.
#[must_use]
pub fn to_time(seconds: f64) -> Option<DateTime<Utc>> {
    #[expect(clippy::cast_possible_truncation, reason = "checked to be within the years of a time")]
    let milliseconds = (seconds.abs() < 1e11).then_some((seconds * 1e3) as i64)?;
    DateTime::from_timestamp_millis(milliseconds)
}

/// Returns `at_hash` of an access token for RS256 and ES256: the left half of its SHA-256, which is
/// the hash of both algorithms, in base64url (`OpenID` Connect Core §3.1.3.6).
#[must_use]
pub fn access_token_hash(token: &Secret) -> String {
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
