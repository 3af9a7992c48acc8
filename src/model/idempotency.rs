//! Idempotent requests (contract §1, *Idempotency-Key*).

use chrono::TimeDelta;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::model::ValidationError;
use crate::model::ids::OrganizationId;
use crate::model::secret::Digest;

/// How long a response is stored (contract §1).
pub const RESPONSE_LIFETIME: TimeDelta = TimeDelta::hours(24);
/// How long a response to the operator is stored.
pub const OPERATOR_RESPONSE_LIFETIME: TimeDelta = TimeDelta::days(30);

/// The client's key for a request: 1 to 256 printable ASCII characters.
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// Parses the header.
    ///
    /// # Errors
    /// Any other text.
    pub fn parse(text: &str) -> Result<Self, ValidationError> {
        let printable = text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
        if printable && (1..=256).contains(&text.len()) {
            Ok(Self(text.to_owned()))
        } else {
            Err("must be 1 to 256 printable ASCII characters".into())
        }
    }

    /// The key as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns what is stored of it: the text could contain anything, even a secret.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(&self.0).into()
    }
}

/// An idempotent request.
pub struct IdempotentRequest {
    /// The organization whose data it concerns.
    pub organization: OrganizationId,
    /// Who makes it.
    pub principal: String,
    /// What it is made to: the method and the route.
    pub endpoint: String,
    /// How long its answer is kept.
    pub lifetime: TimeDelta,
    /// The digest of the caller's name for it.
    pub key_digest: [u8; 32],
    /// The digests of its content under each pepper, newest first: the content may include a
    /// password, which a plain hash would not protect.
    pub fingerprints: Vec<Digest>,
}

impl IdempotentRequest {
    /// The advisory lock of the record. Two different records have the same lock with a probability
    /// of 2^-64, and then only wait for each other.
    #[must_use]
    pub fn advisory_lock_key(&self) -> i64 {
        let mut hash = Sha256::new();
        hash.update(self.organization.0.as_bytes());
        for part in [self.principal.as_bytes(), self.endpoint.as_bytes(), &self.key_digest] {
            hash.update(part.len().to_be_bytes());
            hash.update(part);
        }
        let digest: [u8; 32] = hash.finalize().into();
        digest.first_chunk().map_or(0, |number| i64::from_be_bytes(*number))
    }
}

/// An answer that was kept.
pub struct StoredResponse {
    /// The digest of the request that it answered, under some pepper.
    pub fingerprint: Vec<u8>,
    /// Its status.
    pub status: u16,
    /// Its body, without secrets; `None` where it had none.
    pub body: Option<Value>,
}
