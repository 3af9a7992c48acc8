//! Registrations of clients by themselves (RFC 7591, RFC 7592).

use chrono::{DateTime, Utc};

use crate::model::ids::AppId;
use crate::model::oauth::client_metadata::ClientMetadata;
use crate::model::secret::Digest;

/// The maximum number of clients that registered themselves, in the deployment.
pub const MAX_REGISTRATIONS: i64 = 5_000;

/// A client that registered itself.
pub struct Registration {
    /// Its id, whose text is its `client_id`.
    pub id: AppId,
    /// What it says about itself.
    pub metadata: ClientMetadata,
    /// When it registered.
    pub created_at: DateTime<Utc>,
}

/// A client to insert.
pub struct NewRegistration<'a> {
    /// Its id.
    pub id: AppId,
    /// What it says about itself.
    pub metadata: &'a ClientMetadata,
    /// The digest of its registration access token.
    pub digest: Digest,
    /// The id of the pepper of the digest.
    pub pepper_id: &'a str,
    /// When it registers.
    pub created_at: DateTime<Utc>,
}
