//! Personal access tokens, without their plaintexts.

use chrono::{DateTime, Utc};

use crate::model::ids::{AccountId, KeyId, MembershipId, OrganizationId};
use crate::model::names::KeyName;
use crate::model::scope::ScopeSet;
use crate::model::secret::Digest;

/// The public data of a personal access token, without its plaintext.
#[derive(Clone, Debug)]
pub struct PersonalToken {
    /// Its id.
    pub id: KeyId,
    /// Its name.
    pub name: String,
    /// The prefix of its text.
    pub prefix: String,
    /// The first 8 characters after the prefix, which may be displayed.
    pub display_id: String,
    /// Its scopes.
    pub scopes: ScopeSet,
    /// The public id of the organization that it is pinned to, if any.
    pub organization_handle: Option<String>,
    /// When it expires; `None` if it never does.
    pub expires_at: Option<DateTime<Utc>>,
    /// When it was last used. The stored time can be up to 10 seconds old.
    pub last_used_at: Option<DateTime<Utc>>,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// When it was last updated.
    pub updated_at: DateTime<Utc>,
}

/// A personal access token to insert.
pub struct NewPersonalToken<'a> {
    /// Its id.
    pub id: KeyId,
    /// The account that owns it.
    pub account: AccountId,
    /// The organization that it is pinned to, and the account's membership there, with which it
    /// ends; `None` if it is not pinned.
    pub pinned_to: Option<(OrganizationId, MembershipId)>,
    /// The digest of its text.
    pub digest: Digest,
    /// The id of the digest's pepper.
    pub pepper_id: &'a str,
    /// The prefix of its text.
    pub prefix: &'a str,
    /// The first 8 characters after the prefix, which may be displayed.
    pub display_id: &'a str,
    /// Its name.
    pub name: &'a KeyName,
    /// Its scopes.
    pub scopes: &'a ScopeSet,
    /// The time of its creation.
    pub created_at: DateTime<Utc>,
    /// When it expires; `None` if it never does.
    pub expires_at: Option<DateTime<Utc>>,
}
