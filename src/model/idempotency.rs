//! Requests that may come again (contract §1, *Idempotency-Key*).

use chrono::TimeDelta;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::model::ValidationError;
use crate::model::ids::OrganizationId;
use crate::model::secret::Digest;

/// How long an answer is kept (contract §1).
pub const RESPONSE_LIFETIME: TimeDelta = TimeDelta::hours(24);
/// How long an answer to the operator is kept.
pub const OPERATOR_RESPONSE_LIFETIME: TimeDelta = TimeDelta::days(30);

/// The caller's name for a request: 1 to 256 printable ASCII characters.
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// Reads the header.
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

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What the database holds of it: the text could be anything, a secret included.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(&self.0).into()
    }
}

/// One request that may come again.
pub struct IdempotentRequest {
    /// Whose data it is about.
    pub organization: OrganizationId,
    /// Who makes it.
    pub principal: String,
    /// What it is made to: the method and the route.
    pub endpoint: String,
    /// How long its answer is kept.
    pub lifetime: TimeDelta,
    /// The digest of the caller's name for it.
    pub key_digest: [u8; 32],
    /// The digests of all that it says, under each pepper, the newest first: it may say a
    /// password, which no plain hash would hide.
    pub fingerprints: Vec<Digest>,
}

impl IdempotentRequest {
    /// What the record's place is held under: two that differ share one by an accident of 2^-64,
    /// and then take turns.
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
