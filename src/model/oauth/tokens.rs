//! OAuth's codes and tokens, as they are stored.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use crate::model::ids::{AccountId, GrantId, OrganizationId};
use crate::model::role::Role;
use crate::model::secret::Digest;

/// The lifetime of an access token that is issued with a refresh token.
pub const ACCESS_LIFETIME_WITH_REFRESH: Duration = Duration::from_mins(15);
/// The lifetime of an access token without a refresh token.
pub const ACCESS_LIFETIME_WITHOUT_REFRESH: Duration = Duration::from_hours(1);
/// The lifetime of an access token that is a JWT: a service accepts it until then, even if it is
/// revoked.
pub const JWT_LIFETIME: Duration = Duration::from_mins(10);
/// How long a refresh token is valid without being used.
pub const REFRESH_IDLE: Duration = Duration::from_hours(30 * 24);
/// How long the refresh tokens that began with one code are valid.
pub const REFRESH_ABSOLUTE: Duration = Duration::from_hours(180 * 24);

/// The sign-in that tokens are based on, for ID tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignIn {
    /// The session, which may have ended since.
    pub session: Uuid,
    /// When the person signed in.
    pub at: DateTime<Utc>,
}

/// A code that was just redeemed.
pub struct RedeemedCode {
    /// Its digest.
    pub digest: Digest,
    /// The grant.
    pub grant: GrantId,
    /// The session in which the person consented.
    pub session: Uuid,
    /// When the person signed in to that session.
    pub signed_in_at: DateTime<Utc>,
    /// The nonce of the authorization request.
    pub nonce: Option<String>,
    /// Where it was sent; `None` for a device's.
    pub redirect_uri: Option<String>,
    /// The challenge of PKCE (RFC 7636 §4.2), by S256; `None` for a device's.
    pub challenge: Option<String>,
    /// The granted scopes, without `offline_access`.
    pub scopes: Vec<String>,
    /// The granted resources.
    pub resources: Vec<String>,
    /// Whether `offline_access` was granted.
    pub is_offline: bool,
}

/// A grant for which tokens may be issued.
#[derive(Clone, Debug)]
pub struct TokenGrant {
    /// Its id.
    pub id: GrantId,
    /// The account that granted it.
    pub account: AccountId,
    /// The organization; `None` for one about the account alone.
    pub organization: Option<OrganizationId>,
    /// The public id of the organization.
    pub organization_handle: Option<String>,
    /// The role of the account in the organization.
    pub role: Option<Role>,
    /// Whether the organization is suspended.
    pub is_suspended: bool,
}

/// An access token to insert.
pub struct NewAccessToken<'a> {
    /// Its internal id.
    pub id: Uuid,
    /// Its digest.
    pub digest: Digest,
    /// The grant.
    pub grant: &'a TokenGrant,
    /// The session that it ends with.
    pub session: Option<Uuid>,
    /// Its scopes.
    pub scopes: &'a [String],
    /// Its resources.
    pub resources: &'a [String],
    /// For how long it is valid.
    pub lifetime: Duration,
}

/// A refresh token to insert.
pub struct NewRefreshToken<'a> {
    /// Its internal id.
    pub id: Uuid,
    /// Its digest.
    pub digest: Digest,
    /// The grant.
    pub grant: &'a TokenGrant,
    /// The digest of the code that its chain began with.
    pub code: Digest,
    /// The number of tokens before it in the chain.
    pub generation: i32,
    /// Its successor's text is derived from its own, the pepper and this.
    pub salt: [u8; 32],
    /// The pepper of the digest and of its successor.
    pub pepper_id: &'a str,
    /// Its scopes.
    pub scopes: &'a [String],
    /// Its resources.
    pub resources: &'a [String],
    /// The sign-in that its chain is based on.
    pub sign_in: Option<SignIn>,
    /// How long it is valid without being used.
    pub idle: Duration,
    /// When its chain ends; `None` for the first one, whose chain lasts for `absolute`.
    pub absolute_at: Option<DateTime<Utc>>,
    /// How long a chain lasts.
    pub absolute: Duration,
}

/// A refresh token that was presented.
pub struct StoredRefreshToken {
    /// Its internal id.
    pub id: Uuid,
    /// The grant.
    pub grant: GrantId,
    /// The digest of the code that its chain began with.
    pub code: Digest,
    /// The number of tokens before it in the chain.
    pub generation: i32,
    /// Its successor's text is derived from its own, the pepper and this.
    pub salt: Vec<u8>,
    /// The pepper of its successor.
    pub pepper_id: String,
    /// Its scopes.
    pub scopes: Vec<String>,
    /// Its resources.
    pub resources: Vec<String>,
    /// The sign-in that its chain is based on; `None` if an earlier version issued it.
    pub sign_in: Option<SignIn>,
    /// When its chain ends.
    pub absolute_at: DateTime<Utc>,
    /// How long ago its successor was issued; `None` if there is none.
    pub time_since_use: Option<TimeDelta>,
    /// Whether the successor was used as well.
    pub is_successor_used: bool,
}
