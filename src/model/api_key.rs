//! API keys, without their plaintexts.

use chrono::{DateTime, Utc};

use crate::model::allowed_ips::AllowedIps;
use crate::model::credits::Credits;
use crate::model::ids::{KeyId, MembershipId, OrganizationId};
use crate::model::metadata::Metadata;
use crate::model::named_limits::NamedLimits;
use crate::model::names::{ExternalId, KeyName};
use crate::model::scope::ScopeSet;
use crate::model::secret::Digest;

/// The data of an API key, without its plaintext.
#[derive(Clone, Debug)]
pub struct ApiKey {
    /// Its id.
    pub id: KeyId,
    /// The membership that created it, or to which it was reassigned.
    pub membership: MembershipId,
    /// The prefix of its text.
    pub prefix: String,
    /// The first 8 characters after the prefix, which may be displayed.
    pub display_id: String,
    /// Its name.
    pub name: Option<String>,
    /// Its scopes.
    pub scopes: ScopeSet,
    /// Whether it was neither revoked nor expired when it was read, by the database's clock.
    pub is_active: bool,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// When it expires; `None` if it never does.
    pub expires_at: Option<DateTime<Utc>>,
    /// When it was last used. The stored time can be up to 10 seconds old.
    pub last_used_at: Option<DateTime<Utc>>,
    /// When it was revoked.
    pub revoked_at: Option<DateTime<Utc>>,
    /// The reason that was given for the revocation.
    pub revoked_reason: Option<String>,
    /// Whether it is enabled. A disabled key is rejected even if it is live.
    pub enabled: bool,
    /// The networks that it may be used from.
    pub allowed_ips: AllowedIps,
    /// The metadata that its organization stores with it.
    pub metadata: Metadata,
    /// Its id in another system, which its organization can set.
    pub external_id: Option<String>,
    /// The rate limits that checks of it count against.
    pub limits: NamedLimits,
    /// Its credits; `None` if its checks need none.
    pub credits: Option<Credits>,
    /// The key whose limits and credits it shares: itself, or the first key of the rotations that
    /// led to it.
    pub metered_key: KeyId,
    /// The key that this one replaced.
    pub rotated_from: Option<KeyId>,
    /// The key that replaced this one.
    pub rotated_to: Option<KeyId>,
}

impl ApiKey {
    /// Returns whether the key is live: neither revoked, expired nor superseded.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.is_active && self.rotated_to.is_none()
    }

    /// Returns whether it has limits or credits of its own.
    #[must_use]
    pub fn is_metered(&self) -> bool {
        self.credits.is_some() || !self.limits.is_none()
    }
}

/// An API key to insert.
pub struct NewApiKey<'a> {
    /// Its id.
    pub id: KeyId,
    /// The organization that owns it.
    pub organization: OrganizationId,
    /// The membership that creates it.
    pub membership: MembershipId,
    /// The digest of its text.
    pub digest: Digest,
    /// The id of the digest's pepper.
    pub pepper_id: &'a str,
    /// The prefix of its text.
    pub prefix: &'a str,
    /// The first 8 characters after the prefix, which may be displayed.
    pub display_id: &'a str,
    /// Its name.
    pub name: Option<&'a KeyName>,
    /// Its scopes.
    pub scopes: &'a ScopeSet,
    /// The time of its creation.
    pub created_at: DateTime<Utc>,
    /// When it expires; `None` if it never does.
    pub expires_at: Option<DateTime<Utc>>,
    /// The networks that it may be used from.
    pub allowed_ips: &'a AllowedIps,
    /// The metadata that its organization stores with it.
    pub metadata: &'a Metadata,
    /// Whether it is enabled.
    pub enabled: bool,
    /// Its id in another system, which its organization can set.
    pub external_id: Option<&'a ExternalId>,
    /// The rate limits that checks of it count against.
    pub limits: &'a NamedLimits,
    /// The first key of the rotations that lead to it; `None` if it is the first itself.
    pub metered_key: Option<KeyId>,
    /// The key that it replaces.
    pub rotated_from: Option<KeyId>,
}
