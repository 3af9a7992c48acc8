//! Idempotent requests.

use chrono::TimeDelta;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::model::ValidationError;
use crate::model::ids::OrganizationId;
use crate::model::secret::Digest;

/// The time that a response is stored.
pub const RESPONSE_LIFETIME: TimeDelta = TimeDelta::hours(24);
/// The time that a response to the operator is stored.
pub const OPERATOR_RESPONSE_LIFETIME: TimeDelta = TimeDelta::days(30);

/// The header with a request's idempotency key.
pub const HEADER: &str = "idempotency-key";

/// A request's idempotency key, which the client chose: 1 to 256 printable ASCII characters.
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// Parses the value of the `Idempotency-Key` header.
    ///
    /// # Errors
    /// The text is empty, too long or contains other characters.
    pub fn parse(text: &str) -> Result<Self, ValidationError> {
        let printable = text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
        if printable && (1..=256).contains(&text.len()) {
            Ok(Self(text.to_owned()))
        } else {
            Err("must be 1 to 256 printable ASCII characters".into())
        }
    }

    /// Returns the key as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the SHA-256 of the key, which is stored instead of the text: the text could
    /// contain anything, even a secret.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(&self.0).into()
    }
}

/// An idempotent request.
pub struct IdempotentRequest {
    /// The organization whose data the request concerns.
    pub organization: OrganizationId,
    /// Who sends it: the id of a key, an account or a grant, a master scope, or `STRIPE`.
    pub principal: String,
    /// The method and the route.
    pub endpoint: String,
    /// The time that its response is stored.
    pub lifetime: TimeDelta,
    /// The digest of its idempotency key.
    pub key_digest: [u8; 32],
    /// The digests of its content under each pepper, newest first. A plain hash would not protect
    /// the content, which may include a password.
    pub fingerprints: Vec<Digest>,
}

impl IdempotentRequest {
    /// Returns the key of the record's advisory lock. Two records have the same lock with a
    /// probability of 2^-64, and then only wait for each other.
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

/// A stored response.
pub struct StoredResponse {
    /// The digest of its request's content, under one of the peppers.
    pub fingerprint: Vec<u8>,
    /// Its HTTP status.
    pub status: u16,
    /// Its body, without secrets; `None` if it has none.
    pub body: Option<Value>,
}
