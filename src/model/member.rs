//! Memberships of an organization, as its members see them.

use chrono::{DateTime, Utc};

use crate::model::ids::{AccountId, MembershipId, OrganizationId};
use crate::model::role::Role;

/// A membership. One that open signup created has no account until it is claimed.
#[derive(Clone, Debug)]
pub struct Member {
    /// The membership, inside.
    pub id: MembershipId,
    /// The membership, as callers see it.
    pub handle: String,
    /// Whose it is.
    pub account: Option<AccountId>,
    /// Their address.
    pub email: Option<String>,
    /// What they are called.
    pub name: Option<String>,
    /// What they are in the organization.
    pub role: Role,
    /// Since when.
    pub joined_at: DateTime<Utc>,
}

/// A membership that began by an invitation of a key.
#[derive(Clone, Debug)]
pub struct KeyInvitedMembership {
    /// The membership, as callers see it.
    pub handle: String,
    /// The role that it has now.
    pub role: Role,
    /// When the invitation was accepted.
    pub joined_at: DateTime<Utc>,
}

/// A membership about to be stored.
pub struct NewMembership<'a> {
    /// Where it is.
    pub organization: OrganizationId,
    /// The membership, inside.
    pub id: MembershipId,
    /// The membership, as callers see it.
    pub handle: &'a str,
    /// What its person is.
    pub role: Role,
    /// The account; `None` until it is claimed.
    pub account: Option<AccountId>,
    /// When it is created.
    pub created_at: DateTime<Utc>,
}
