//! Memberships of an organization, with data of their accounts.

use chrono::{DateTime, Utc};

use crate::model::ids::{AccountId, MembershipId, OrganizationId};
use crate::model::role::Role;

/// A membership. If an organization was created without an account, its first owner's membership
/// has no account until it is claimed.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its internal id.
    pub id: MembershipId,
    /// Its public id.
    pub handle: String,
    /// Its account; `None` until the membership is claimed.
    pub account: Option<AccountId>,
    /// The account's e-mail address.
    pub email: Option<String>,
    /// The name of the account's owner.
    pub name: Option<String>,
    /// Its role in the organization.
    pub role: Role,
    /// When it was created.
    pub joined_at: DateTime<Utc>,
}

/// A membership that an invitation of a key created.
#[derive(Clone, Debug)]
pub struct KeyInvitedMembership {
    /// Its public id.
    pub handle: String,
    /// Its current role.
    pub role: Role,
    /// When the invitation was accepted.
    pub joined_at: DateTime<Utc>,
}

/// A membership to insert.
pub struct NewMembership<'a> {
    /// The organization.
    pub organization: OrganizationId,
    /// Its internal id.
    pub id: MembershipId,
    /// Its public id.
    pub handle: &'a str,
    /// Its role.
    pub role: Role,
    /// Its account; `None` until the membership is claimed.
    pub account: Option<AccountId>,
    /// The time of its creation.
    pub created_at: DateTime<Utc>,
}
