//! An API key without its text.

use chrono::{DateTime, Utc};

use crate::model::allowed_ips::AllowedIps;
use crate::model::ids::{KeyId, MembershipId, OrganizationId};
use crate::model::metadata::Metadata;
use crate::model::names::KeyName;
use crate::model::scope::ScopeSet;
use crate::model::secret::Digest;

/// The data of a key.
#[derive(Clone, Debug)]
pub struct ApiKey {
    /// Its id.
    pub id: KeyId,
    /// The membership that it acts for.
    pub membership: MembershipId,
    /// What its text starts with.
    pub prefix: String,
    /// The 8 characters after the prefix.
    pub display_id: String,
    /// Its label.
    pub name: Option<String>,
    /// What it may do.
    pub scopes: ScopeSet,
    /// Whether it was neither revoked nor expired when it was read, by the database's clock.
    pub is_active: bool,
    /// When it was minted.
    pub created_at: DateTime<Utc>,
    /// When it ends; `None` is never.
    pub expires_at: Option<DateTime<Utc>>,
    /// When it was last used, up to 10 seconds behind.
    pub last_used_at: Option<DateTime<Utc>>,
    /// When it was revoked.
    pub revoked_at: Option<DateTime<Utc>>,
    /// The reason that was given for revoking it.
    pub revoked_reason: Option<String>,
    /// Whether it may be used while it is live.
    pub enabled: bool,
    /// Where it may be used from.
    pub allowed_ips: AllowedIps,
    /// The metadata that its organization stores with it.
    pub metadata: Metadata,
    /// The key that this one replaced.
    pub rotated_from: Option<KeyId>,
    /// The key that replaced this one.
    pub rotated_to: Option<KeyId>,
}

impl ApiKey {
    /// Whether the key is live (contract §1): neither revoked nor expired nor superseded.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.is_active && self.rotated_to.is_none()
    }
}

/// A key about to be stored.
pub struct NewApiKey<'a> {
    /// Its id.
    pub id: KeyId,
    /// The organization that owns it.
    pub organization: OrganizationId,
    /// The membership that minted it.
    pub membership: MembershipId,
    /// The digest of its text.
    pub digest: Digest,
    /// The pepper of the digest.
    pub pepper_id: &'a str,
    /// What its text starts with.
    pub prefix: &'a str,
    /// The 8 characters after the prefix.
    pub display_id: &'a str,
    /// Its label.
    pub name: Option<&'a KeyName>,
    /// What it may do.
    pub scopes: &'a ScopeSet,
    /// When it is minted.
    pub created_at: DateTime<Utc>,
    /// When it ends; `None` is never.
    pub expires_at: Option<DateTime<Utc>>,
    /// Where it may be used from.
    pub allowed_ips: &'a AllowedIps,
    /// The metadata that its organization stores with it.
    pub metadata: &'a Metadata,
    /// Whether it may be used.
    pub enabled: bool,
    /// The key that it replaces.
    pub rotated_from: Option<KeyId>,
}
