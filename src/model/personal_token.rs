//! A personal access token without its text.

use chrono::{DateTime, Utc};

use crate::model::ids::{AccountId, KeyId, MembershipId, OrganizationId};
use crate::model::names::KeyName;
use crate::model::scope::ScopeSet;
use crate::model::secret::Digest;

/// The public data of a personal access token after it was created.
#[derive(Clone, Debug)]
pub struct PersonalToken {
    /// Its id.
    pub id: KeyId,
    /// Its label.
    pub name: String,
    /// What its text starts with.
    pub prefix: String,
    /// The 8 characters after the prefix.
    pub display_id: String,
    /// What it may do.
    pub scopes: ScopeSet,
    /// The organization that it is pinned to, as callers see it.
    pub organization_handle: Option<String>,
    /// When it ends; `None` is never.
    pub expires_at: Option<DateTime<Utc>>,
    /// When it was last used, up to 10 seconds behind.
    pub last_used_at: Option<DateTime<Utc>>,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
}

/// A personal access token about to be stored.
pub struct NewPersonalToken<'a> {
    /// Its id.
    pub id: KeyId,
    /// Whose it is.
    pub account: AccountId,
    /// The organization that it is to work in, and its person's membership there, which it ends
    /// with; `None` in none in particular.
    pub pinned_to: Option<(OrganizationId, MembershipId)>,
    /// The digest of its text.
    pub digest: Digest,
    /// The pepper of the digest.
    pub pepper_id: &'a str,
    /// What its text starts with.
    pub prefix: &'a str,
    /// The 8 characters after the prefix.
    pub display_id: &'a str,
    /// Its label.
    pub name: &'a KeyName,
    /// What it may do.
    pub scopes: &'a ScopeSet,
    /// When it is created.
    pub created_at: DateTime<Utc>,
    /// When it ends; `None` is never.
    pub expires_at: Option<DateTime<Utc>>,
}
